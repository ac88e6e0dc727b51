package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyholed/keyhole/internal/settings"
)

const (
	maxListen    = 4
	maxAdvertise = 3 // what a node's certificate has room for
	maxNames     = 16
	maxEvents    = 16

	maxAuthorizeTimeout = 700 * time.Millisecond // every no leaves after 1 s
)

var (
	nodeName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	webhookName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,23}$`)
	eventKind   = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
	enrolModes  = settings.Choice{Allowed: []string{EnrolOpen, EnrolListed, EnrolSecret}}
)

// validator collects what is wrong with a whole configuration.
type validator struct {
	*Config
	errs Errors
}

func (c *Config) validate() Errors {
	v := &validator{Config: c}
	v.basestation()
	v.enrolAndStore()
	v.api()
	v.authorize()
	v.webhooks()
	v.limits()
	return v.errs
}

// fail blames the key at path; text "" is no fault.
func (v *validator) fail(text string, path ...string) {
	if text != "" {
		v.errs = append(v.errs, v.doc.Fault(text, "", path...))
	}
}

func (v *validator) basestation() {
	b := v.Basestation
	if b.Name != "" && !nodeName.MatchString(b.Name) {
		v.fail(settings.Quote(b.Name)+" is no name of a node: want 1 to 64 of A-Z a-z 0-9 . _ -", "basestation", "name")
	}
	if len(b.Listen) == 0 {
		v.fail(`empty: want at least one address, such as ":7443"`, "basestation", "listen")
	}
	v.addresses(b.Listen, maxListen, settings.Listen, "basestation", "listen")
	v.addresses(b.Advertise, maxAdvertise, checkAdvertise, "basestation", "advertise")
	v.fail(checkDirectory(b.Data), "basestation", "data")
	v.fail(settings.Within(b.Drain, 0, 10*time.Minute), "basestation", "drain")
}

func (v *validator) addresses(list []string, most int, check func(string) string, path ...string) {
	if len(list) > most {
		v.fail(fmt.Sprintf("%d addresses: at most %d are allowed", len(list), most), path...)
	}
	for i, address := range list {
		at := append(slices.Clone(path), strconv.Itoa(i))
		if text := check(address); text != "" {
			v.fail(text, at...)
		} else if slices.Contains(list[:i], address) && !strings.HasSuffix(address, ":0") {
			v.fail(settings.Quote(address)+" is listed twice", at...)
		}
	}
}

func (v *validator) enrolAndStore() {
	if text, hint := enrolModes.Check(v.Enrol.Mode); text != "" {
		v.errs = append(v.errs, v.doc.Fault(text, hint, "enrol", "mode"))
	}
	if v.Store.NATS != "" {
		v.fail(checkNATS(v.Store.NATS), "store", "nats")
	} else if v.Store.Credentials+v.Store.Roots+v.Store.Certificate+v.Store.Key != "" {
		v.fail("files for an external NATS, which needs nats as well", "store")
	}
	if (v.Store.Certificate == "") != (v.Store.Key == "") {
		v.fail("certificate and key belong together: want both or none", "store")
	}
	if r := v.Store.Replicas; !slices.Contains([]int{0, 1, 3, 5}, r) {
		v.fail(fmt.Sprintf("%d is out of range: want 1, 3 or 5, or 0 to leave it to us", r), "store", "replicas")
	} else if r > 1 && v.Store.NATS == "" {
		v.fail("the embedded store is one: more need nats, an external cluster", "store", "replicas")
	}
}

func (v *validator) api() {
	if v.API.Listen != "" {
		v.fail(settings.Listen(v.API.Listen), "api", "listen")
	}
	if (v.API.Certificate == "") != (v.API.Key == "") {
		v.fail("certificate and key belong together: want both or none", "api")
	}
	if n := len(v.API.Names); n > maxNames {
		v.fail(fmt.Sprintf("%d names: at most %d are allowed", n, maxNames), "api", "names")
	}
	for i, name := range v.API.Names {
		if !isHost(name) {
			v.fail(settings.Quote(name)+" is neither a host name nor an IP address", "api", "names", strconv.Itoa(i))
		}
	}
}

func (v *validator) authorize() {
	if v.Authorize.URL != "" {
		v.fail(checkURL(v.Authorize.URL), "authorize", "url")
	}
	v.fail(settings.Within(v.Authorize.Timeout, 50*time.Millisecond, maxAuthorizeTimeout), "authorize", "timeout")
}

func (v *validator) webhooks() {
	seen := map[string]bool{}
	for i, w := range v.Webhooks {
		at := func(key string) []string { return []string{"webhook", strconv.Itoa(i), key} }
		switch {
		case w.Name == "":
			v.fail("has no value: a webhook needs a name", at("name")...)
		case !webhookName.MatchString(w.Name):
			v.fail("want a-z or 0-9, then up to 23 of a-z 0-9 -", at("name")...)
		case seen[w.Name]:
			v.fail(settings.Quote(w.Name)+" is used twice", at("name")...)
		}
		seen[w.Name] = true
		v.fail(checkURL(w.URL), at("url")...)
		if len(w.Events) > maxEvents {
			v.fail(fmt.Sprintf("%d kinds: at most %d are allowed", len(w.Events), maxEvents), at("events")...)
		}
		for _, kind := range w.Events {
			if !eventKind.MatchString(kind) {
				v.fail(settings.Quote(kind)+` is no kind of event: want one such as "presence" or "alarm.duplicate"`, at("events")...)
			}
		}
		v.fail(settings.Within(w.Timeout, 100*time.Millisecond, time.Minute), at("timeout")...)
		v.fail(settings.Within(w.Workers, 1, 32), at("workers")...)
		v.fail(settings.Within(w.GiveUp, time.Minute, 7*24*time.Hour), at("give_up")...)
	}
}

func (v *validator) limits() {
	v.fail(settings.Within(v.Relay.Tunnels, 1, 500_000), "relay", "tunnels")
	v.fail(settings.Within(v.Relay.PerDevice, 1, 4096), "relay", "per_device")
	v.fail(settings.Within(v.Relay.Life, time.Minute, 30*24*time.Hour), "relay", "life")
	v.fail(settings.Within(v.Relay.DailyMB, 0, 1_000_000_000), "relay", "daily_mb")
	v.fail(settings.Within(v.Relay.VendorTunnels, 0, 500_000), "relay", "vendor_tunnels")
	v.fail(settings.Within(v.Relay.VendorDailyMB, 0, 1_000_000_000), "relay", "vendor_daily_mb")
	v.fail(settings.Within(v.Limits.Devices, 1, 16_000_000), "limits", "devices")
	v.fail(settings.Within(v.Limits.Connections, 16, 1_000_000), "limits", "connections")
	v.fail(settings.Within(v.Limits.Introductions, 1, 100_000), "limits", "introductions")
}

func checkAdvertise(address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.Addr().Zone() != "" {
		return settings.Quote(address) + ` is no address that others can reach: want "192.0.2.7:7443" or "[2001:db8::7]:7443"`
	}
	return ""
}

func checkNATS(list string) string {
	for _, text := range strings.Split(list, ",") {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
			return settings.Quote(text) + ` is no URL of a NATS server: want "nats://192.0.2.7:4222" or "tls://nats.example.net:4222"`
		}
	}
	return ""
}

func checkURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return `has no value: want a URL such as "https://hooks.example.net/keyhole"`
	case err != nil || u.Host == "":
		return settings.Quote(text) + ` is no URL: want one such as "https://hooks.example.net/keyhole"`
	case u.User != nil:
		return "has a password in it: requests are signed instead"
	case u.Scheme == "https":
		return ""
	}
	if addr, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && addr.IsLoopback()) {
		return ""
	}
	return settings.Quote(text) + " leaves this machine without encryption: want https"
}

// checkDirectory looks at a path that is absolute already.
func checkDirectory(path string) string {
	switch {
	case path == "":
		return "empty: want the path of a directory"
	case strings.ContainsRune(path, 0):
		return "contains a zero byte"
	case path == "/":
		return `"/" is not a directory for this: want one of its own`
	}
	return ""
}

var hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func isHost(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return len(name) <= 253 && hostName.MatchString(name)
}
