// Package config is what the operator of a basestation decided: the TOML file
// that `keyhole-basestation serve` reads, its defaults and its limits.
//
// cmd/keyhole-basestation uses it. Every mistake names the file, the line and
// the key, and all mistakes of a file are reported together. The package opens
// nothing and makes no directory; it reads the configuration file alone, and
// whoever holds a Config reads the files that it names.
package config

import (
	"time"

	"github.com/keyholed/keyhole/internal/settings"
)

// DefaultPath is where the file is when --config names no other. There need not
// be one: every setting has a default.
const DefaultPath = "/etc/keyhole/basestation.toml"

// DefaultData is the data directory when neither file nor --data names another.
const DefaultData = "/var/lib/keyhole-basestation"

// A Config is one file with its defaults filled in and the command line's
// overrides applied. It never changes after Load or Parse. A change of the file
// takes effect at the next start, which is gentle: devices are told to move and
// come back.
type Config struct {
	Basestation Basestation `toml:"basestation"`
	Enrol       Enrol       `toml:"enrol"`
	Store       Store       `toml:"store"`
	API         API         `toml:"api"`
	Authorize   Authorize   `toml:"authorize"`
	Webhooks    []Webhook   `toml:"webhook"`
	Relay       Relay       `toml:"relay"`
	Limits      Limits      `toml:"limits"`

	// File is the name the configuration was read from, for messages; "": none.
	File string `toml:"-"`

	doc *settings.Document
}

// Basestation is where this node listens and lives.
type Basestation struct {
	// Name is what events, metrics and lists call this node: 1 to 64 of A-Z a-z
	// 0-9 . _ -, or empty: the id that it makes itself. Default empty.
	Name string `toml:"name"`
	// Listen are the addresses served over UDP and TCP, as "IP:PORT" or ":PORT"
	// for all addresses. A second one on port 443 helps devices whose network
	// lets out little else. 1 to 4 of them. Default [":7443"].
	Listen []string `toml:"listen"`
	// Advertise are the addresses at which devices and clients reach this node,
	// as "IP:PORT": what its certificate says. Needed where it is behind a NAT
	// or a load balancer, and for each node of a fleet. Up to 3. Default none:
	// where it listens, or the addresses of this machine if it listens on all.
	Advertise []string `toml:"advertise"`
	// Data is the directory of keys and records. A relative path is meant from
	// the file's own directory. Default "/var/lib/keyhole-basestation".
	Data string `toml:"data"`
	// Drain is how long a node that stops lets devices move and relayed tunnels
	// finish. 0s to 10m. Default 20s.
	Drain time.Duration `toml:"drain"`
}

// Ways for a device to prove itself.
const (
	EnrolOpen   = "open"
	EnrolListed = "listed"
	EnrolSecret = "secret"
)

// Enrol says which devices may attach.
type Enrol struct {
	// Mode is "open", any key is welcome; "listed", the keys that were added
	// are; "secret", a serial number and its factory secret are needed, and the
	// first attach binds the device's key to them. Default "open".
	Mode string `toml:"mode"`
	// Master is the file of the master secret from which secrets of serial
	// numbers are derived, 64 hexadecimal digits, for its owner alone. Made when
	// it is missing. Default "master.secret" in the data directory.
	Master string `toml:"master"`
}

// Store says where the records are.
type Store struct {
	// NATS is the URL of an external NATS cluster with JetStream, several with
	// commas between: "nats://" or "tls://". Empty: NATS runs inside of this
	// process, listens nowhere, and keeps its files in the data directory.
	// Default empty.
	NATS string `toml:"nats"`
	// Credentials is the file with which NATS knows us. Default none.
	Credentials string `toml:"credentials"`
	// Roots is a PEM file of the authorities that certify the NATS servers.
	// Default none: those of the system.
	Roots string `toml:"roots"`
	// Certificate and Key are PEM files with which we prove ourselves to NATS.
	// Default none.
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	// Plain allows a connection to another machine without encryption. Default
	// false.
	Plain bool `toml:"plain"`
	// Replicas is how many servers of the cluster keep each record: 1, 3 or 5;
	// with 3 one may fail. 0 is 1 for the embedded store and what the cluster
	// can give for another. Default 0.
	Replicas int `toml:"replicas"`
}

// API is the operator's HTTPS interface.
type API struct {
	// Listen is its address, as "IP:PORT" or ":PORT"; empty: none. Default
	// "127.0.0.1:7480".
	Listen string `toml:"listen"`
	// Certificate and Key are PEM files. Both or none: then one is made in the
	// data directory, api.pem, for curl --cacert. Default none.
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	// Names are further host names and IP addresses for the certificate that is
	// made. localhost and this machine's name are in it. Up to 16. Default none.
	Names []string `toml:"names"`
}

// Authorize is who is not introduced, and the webhook that is asked about the others.
type Authorize struct {
	// URL is where to ask: https, or http on this machine. Empty: nobody is
	// asked, the device decides alone. Default empty.
	URL string `toml:"url"`
	// SecretFile holds the secret that signs the questions. Made when it is
	// missing. Default "authorize.secret" in the data directory.
	SecretFile string `toml:"secret_file"`
	// Deny is a file of who is not introduced: keys, devices, addresses, countries. A
	// change of it counts within seconds. Default none.
	Deny string `toml:"deny"`
	// Countries is a CSV file that says in which country addresses are, for Deny and
	// for the webhook. A change of it counts within seconds. Default none.
	Countries string `toml:"countries"`
	// Roots is a PEM file of the authorities to believe. Default none: those of
	// the system.
	Roots string `toml:"roots"`
	// Timeout is how long an answer may take: 50ms to 700ms, since every no
	// leaves after one second. No answer is no. Default 700ms.
	Timeout time.Duration `toml:"timeout"`
}

// A Webhook is a receiver of events.
type Webhook struct {
	// Name is the receiver's place in the log of events: [a-z0-9][a-z0-9-]{0,23},
	// unique. Required.
	Name string `toml:"name"`
	// URL is where events go: https, or http on this machine. Required.
	URL string `toml:"url"`
	// Events are the kinds to tell, or what they begin with: "presence",
	// "alarm", "device". Up to 16. Default []: all.
	Events []string `toml:"events"`
	// SecretFile holds the secret that signs the events. Made when it is
	// missing. Default "webhook-NAME.secret" in the data directory.
	SecretFile string `toml:"secret_file"`
	// Roots is a PEM file of the authorities to believe. Default none: those of
	// the system.
	Roots string `toml:"roots"`
	// Timeout of one try: 100ms to 60s. Default 10s.
	Timeout time.Duration `toml:"timeout"`
	// Workers is how many events are under way at once, 1 to 32. Default 4.
	Workers int `toml:"workers"`
	// GiveUp is the age at which an event is dropped that the receiver does not
	// take: 1m to 168h, for as long as the log keeps events. Default 72h.
	GiveUp time.Duration `toml:"give_up"`
}

// Relay bounds what is relayed.
type Relay struct {
	// Enabled is false on a node that introduces and does not relay. Default true.
	Enabled bool `toml:"enabled"`
	// Tunnels is the number of relayed connections at once. 1 to 500,000,
	// default 10,000: each takes two descriptors and, idle, some 10 KiB.
	Tunnels int `toml:"tunnels"`
	// PerDevice is the number of relayed connections of one device. 1 to 4096,
	// default 32.
	PerDevice int `toml:"per_device"`
	// Life ends a relayed connection after so long. 1m to 720h, default 12h: a
	// session that is worth more finds another.
	Life time.Duration `toml:"life"`
	// DailyMB is how much one device may have relayed in 24 hours, in millions of
	// bytes, both directions together. 0 is no bound. Default 0.
	DailyMB int `toml:"daily_mb"`
	// VendorTunnels is the number of relayed connections at once of all devices of
	// one vendor on this node, VendorDailyMB how much they may have relayed in 24
	// hours. Devices that were added without a vendor are on nobody's account. 0 is
	// no bound. Default 0.
	VendorTunnels int `toml:"vendor_tunnels"`
	VendorDailyMB int `toml:"vendor_daily_mb"`
}

// Limits bound what peers can make the basestation spend. Zero is never "no limit".
type Limits struct {
	// Devices is the number of attached devices of this node: 1 to 16,000,000,
	// some 1.5 KiB each. Default 1,000,000.
	Devices int `toml:"devices"`
	// Connections is the number of TCP connections that are no relayed ones:
	// devices and clients without UDP, questions for one's address. 16 to
	// 1,000,000, default 50,000.
	Connections int `toml:"connections"`
	// Introductions is how many questions a minute one source may ask, an IPv4
	// address or an IPv6 /64: 1 to 100,000, default 120: an office behind one
	// address.
	Introductions int `toml:"introductions"`
}

// Default is the configuration of an empty file: one process that serves every
// device.
func Default() *Config {
	return &Config{
		Basestation: Basestation{Listen: []string{":7443"}, Data: DefaultData, Drain: 20 * time.Second},
		Enrol:       Enrol{Mode: EnrolOpen},
		API:         API{Listen: "127.0.0.1:7480"},
		Authorize:   Authorize{Timeout: maxAuthorizeTimeout},
		Relay:       Relay{Enabled: true, Tunnels: 10_000, PerDevice: 32, Life: 12 * time.Hour},
		Limits:      Limits{Devices: 1_000_000, Connections: 50_000, Introductions: 120},
	}
}

// defaultWebhook is what a [[webhook]] has before its keys are read.
func defaultWebhook() Webhook {
	return Webhook{Timeout: 10 * time.Second, Workers: 4, GiveUp: 72 * time.Hour}
}
