// Package config is what the owner of a device decided: the TOML file that
// keyholed reads, its defaults, its limits, and what a reload may change.
//
// The daemon and `keyholed check` use it. Every mistake names the file, the line
// and the key, and all mistakes of a file are reported together. The package
// opens no socket and makes no directory: whoever holds a Config decides what to
// do with it. What a service's type and address mean is the tunnel's knowledge;
// here they are words with a line number (see Check).
package config

import (
	"time"

	"github.com/keyholed/keyhole/internal/settings"
)

// DefaultPath is where the file is when neither --config nor EnvPath names one.
const DefaultPath = "/etc/keyhole/keyholed.toml"

// EnvPath is the environment variable that names the file.
const EnvPath = "KEYHOLED_CONFIG"

// DefaultSocket is the local control socket when --socket names no other.
const DefaultSocket = "/run/keyhole/keyholed.sock"

// A Config is one configuration file with its defaults filled in and the
// command line's overrides applied. It never changes after Load or Parse.
//
// Each field says what it means, its unit, its default, and whether `systemctl
// reload` (SIGHUP) takes it over or a restart is needed; the tag reload:"live"
// is the same statement for Compare.
type Config struct {
	Device      Device      `toml:"device"`
	Basestation Basestation `toml:"basestation"`
	Services    []Service   `toml:"service" reload:"live"`
	Roles       []Role      `toml:"role" reload:"live"`
	Pairing     Pairing     `toml:"pairing"`
	Central     Central     `toml:"central"`
	Support     Support     `toml:"support"`
	Board       Board       `toml:"board"`
	Limits      Limits      `toml:"limits"`
	Authorities []Authority `toml:"authority" reload:"live"`

	// File is the name the configuration was read from, for messages. "" is a
	// configuration that came from no file.
	File string `toml:"-"`
	// Warnings are what the file asks for and this version does not do. They
	// are for `keyholed check`, the log and the status.
	Warnings Errors `toml:"-"`
	// Socket is the path of the control socket. It is not part of the file,
	// because the commands that use it do not read the file. Restart.
	Socket string `toml:"-"`

	doc *settings.Document
}

// Device is who the device says it is and where it lives.
type Device struct {
	// Name is what people call the device: 1 to 64 printable characters.
	// Default "Keyhole". Reload.
	Name string `toml:"name" reload:"live"`
	// Product is the model, for lists and for finding devices of one kind: 1 to
	// 63 of A-Z a-z 0-9 . _ -, begins with a letter or digit. Default
	// "keyhole". Restart.
	Product string `toml:"product"`
	// Listen are the addresses served over TCP and over UDP (QUIC), as
	// "IP:PORT" or ":PORT" for all addresses, IPv4 and IPv6. Port 0 takes a
	// free one. 1 to 16 of them. Default [":7443"]. Restart.
	Listen []string `toml:"listen"`
	// State is the directory of the access list and the owner's settings: what
	// a factory reset erases. A relative path is meant from the file's own
	// directory. Default "/var/lib/keyhole/state". Restart.
	State string `toml:"state"`
	// Identity is the directory of the device's key: what a factory reset
	// keeps. It may be on another partition; neither directory may be inside
	// the other. Default "/var/lib/keyhole/identity". Restart.
	Identity string `toml:"identity"`
}

// Basestation is who introduces clients from beyond the local network. The zero
// value is nobody: the device serves its own network only. All of it needs a
// restart.
type Basestation struct {
	// Addresses are where to ask, as "HOST:PORT", up to 8; one string is allowed
	// in place of a list. The device keeps to the one that answered last.
	Addresses []string `toml:"address"`
	// Keys are the root keys by which the basestation is known, as printed by
	// `keyhole-basestation key`: one, or two so that one can be retired. One
	// string is allowed in place of a list.
	Keys []string `toml:"key"`
	// Serial is the serial number that the factory gave the device, up to 64
	// printable ASCII characters; only for a basestation that wants one.
	// Default none.
	Serial string `toml:"serial"`
	// SecretFile holds the secret that belongs to Serial: 43 characters as
	// `keyhole-basestation secret derive` prints them, in a file that only the
	// daemon's user may read. A relative path is meant from the file's own
	// directory. Needed with Serial and only then.
	SecretFile string `toml:"secret_file"`
}

// Wanted reports whether the device shall attach to a basestation.
func (b Basestation) Wanted() bool { return len(b.Addresses) > 0 }

// A Service is one thing of the device that may be reached through a tunnel.
// Services are taken over by a reload: tunnels that are open stay open.
type Service struct {
	// Name is what clients ask for: [a-z][a-z0-9-]{0,31}, unique. Required.
	Name string `toml:"name"`
	// Type says how to treat it: rtsp, http, ssh or tcp. Required.
	Type string `toml:"type"`
	// Address is where it listens: "IP:PORT", "HOST:PORT" or "unix:/PATH".
	// Required.
	Address string `toml:"address"`
	// Access is who decides about entering: "role", the access list, or
	// "application", the service itself, by its own password (http and rtsp only):
	// then everybody reaches it, and failed passwords are slowed down. Default
	// "role".
	Access string `toml:"access"`
	// Credentials is a file with the user name and password of an http or rtsp
	// service, for the device to sign in with in its clients' place: one line
	// "user:password", readable by the daemon's user alone. A relative path is
	// meant from the file's own directory. Needs access "role". A reload reads
	// the file again. Default none: the service asks its clients itself.
	Credentials string `toml:"credentials"`

	// Media says that who has a tunnel to it may be watching or listening, so that
	// the light for that is on and the display names him. Default true for rtsp,
	// where it cannot be false, and false for other types: set it for a camera's
	// pictures over http.
	Media bool `toml:"media"`

	file  string
	lines map[string]int
	line  int
}

// Sets reports whether the file has the key, whatever its value.
func (s Service) Sets(key string) bool { return s.lines[key] != 0 }

// Pairing is how new users come to the device.
type Pairing struct {
	// Modes are the ways to pair: "button" and "code" (on a display) while a window
	// is open, "label" (the code on the sticker, see `keyholed label`) then too, and
	// "invite" by a link from somebody who has paired. An empty list means that
	// nobody can pair. Default ["button"]. Restart.
	Modes []string `toml:"modes"`
	// LabelAlways takes the code of the label without an open window too, for a
	// device whose button nobody can press: whoever has read the sticker may then pair
	// at any time, as long as he is on the device's own network. Default false. Restart.
	LabelAlways bool `toml:"label_always"`
	// Role is what everybody becomes who pairs after the owner: "viewer", "guest",
	// "admin", or one of [[role]]. Default "viewer". Reload.
	Role string `toml:"role" reload:"live"`
	// Interfaces are further network interfaces whose direct neighbours count
	// as local and may pair, such as a container bridge. Ethernet and Wi-Fi
	// always count. Up to 16. Default none. Restart.
	Interfaces []string `toml:"interfaces"`
}

// Board profiles of this version.
const (
	BoardNone      = "none"
	BoardSimulated = "simulated"
)

// Board is the hardware: buttons, lights, display.
type Board struct {
	// Profile is "none", a device without buttons (then `keyholed pair open` is
	// the press), or "simulated", a board in software that `keyholed press`
	// drives. Default "none". Restart.
	Profile string `toml:"profile"`
	// Web is the loopback address of the simulated board's page, as "IP:PORT";
	// port 0 takes a free one. Empty: no page. Default empty. Restart.
	Web string `toml:"web"`
}

// Limits bound what peers can make the device spend. Zero is never "no limit".
type Limits struct {
	// Unauthenticated is the number of connections that have not yet proven a
	// key. Beyond it the oldest of the busiest source is dropped. 8 to 4096,
	// default 128. Restart.
	Unauthenticated int `toml:"unauthenticated"`
	// Unpaired is the number of sessions of keys that are not on the access
	// list. 1 to 1024, default 32. Restart.
	Unpaired int `toml:"unpaired"`
	// Sessions is the number of sessions of paired keys. 1 to 16384, default
	// 256. Restart.
	Sessions int `toml:"sessions"`
	// Tunnels is the number of open tunnels in all. 1 to 4096, default 128.
	// Restart.
	Tunnels int `toml:"tunnels"`
	// TunnelsPerPeer is the number of open tunnels of one key, at most Tunnels.
	// Default 32: a browser opens six connections to a web page. Restart.
	TunnelsPerPeer int `toml:"tunnels_per_peer"`
	// TunnelIdle ends a tunnel in which no byte moved for so long, as "90s" or
	// "2h". 10s to 168h, default 2h: an ssh session outlives a lunch. Restart.
	TunnelIdle time.Duration `toml:"tunnel_idle"`
}

// Default is the configuration of an empty file: a device without services.
func Default() *Config {
	return &Config{
		Device: Device{
			Name:     "Keyhole",
			Product:  "keyhole",
			Listen:   []string{":7443"},
			State:    "/var/lib/keyhole/state",
			Identity: "/var/lib/keyhole/identity",
		},
		Pairing: Pairing{Modes: []string{"button"}, Role: "viewer"},
		Central: defaultCentral(),
		Support: defaultSupport(),
		Board:   Board{Profile: BoardNone},
		Limits: Limits{
			Unauthenticated: 128, // a burst of one household; half-done handshakes of all stay under 8 MiB
			Unpaired:        32,
			Sessions:        256,
			Tunnels:         128,
			TunnelsPerPeer:  32,
			TunnelIdle:      2 * time.Hour,
		},
		Socket: DefaultSocket,
	}
}

// defaultService is what a [[service]] has before its keys are read.
func defaultService() Service { return Service{Access: accessRole} }
