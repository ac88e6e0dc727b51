package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyholed/keyhole/internal/settings"
)

// accessRole is a service's access when the file says nothing.
const accessRole = "role"

const (
	maxListen       = 16
	maxNameRunes    = 64  // the same bound as for users' names
	maxAddressBytes = 300 // a DNS name of 253 bytes and a port; a Unix path has at most 107
	maxInterfaces   = 16
	maxIfNameBytes  = 15 // IFNAMSIZ without its final zero byte
)

var (
	shortName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`) // of services, roles and authorities
	productName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

const (
	modeButton  = "button"
	modeCode    = "code"
	modeLabel   = "label"
	modeInvite  = "invite"
	modeCentral = "central"
)

var (
	pairingModes  = settings.Choice{Allowed: []string{modeButton, modeCode, modeLabel, modeInvite, modeCentral}}
	serviceAccess = settings.Choice{Allowed: []string{accessRole, "application"}}
	boardProfiles = settings.Choice{Allowed: []string{BoardNone, BoardSimulated}}
)

// validator collects what is wrong with a whole configuration.
type validator struct {
	*Config
	errs     Errors
	warnings Errors
}

func (c *Config) validate(checks []Check) (faults, warnings Errors) {
	v := &validator{Config: c}
	v.device()
	v.directories()
	v.basestation()
	v.services(checks)
	v.roles()
	v.pairing()
	v.central()
	v.support()
	v.board()
	v.limits()
	v.authorities()
	return v.errs, v.warnings
}

// fail blames key, given as its path.
func (v *validator) fail(text, hint string, path ...string) {
	v.errs = append(v.errs, v.doc.Fault(text, hint, path...))
}

func (v *validator) device() {
	if text := checkName(v.Device.Name); text != "" {
		v.fail(text, "", "device", "name")
	}
	if !productName.MatchString(v.Device.Product) {
		v.fail(settings.Quote(v.Device.Product)+" is no product name: want 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit", "", "device", "product")
	}
	switch n := len(v.Device.Listen); {
	case n == 0:
		v.fail(`empty: want at least one address, such as ":7443"`, "", "device", "listen")
	case n > maxListen:
		v.fail(fmt.Sprintf("%d addresses: at most %d are allowed", n, maxListen), "", "device", "listen")
	}
	for i, address := range v.Device.Listen {
		at := []string{"device", "listen", strconv.Itoa(i)}
		if text := settings.Listen(address); text != "" {
			v.fail(text, "", at...)
		} else if slices.Contains(v.Device.Listen[:i], address) && !strings.HasSuffix(address, ":0") {
			v.fail(settings.Quote(address)+" is listed twice", "", at...)
		}
	}
}

// directories keeps what a reset erases apart from what it keeps.
func (v *validator) directories() {
	whole := true
	for _, d := range []struct{ key, dir string }{{"state", v.Device.State}, {"identity", v.Device.Identity}} {
		if text := checkPath(d.dir); text != "" {
			v.fail(text, "", "device", d.key)
			whole = false
		}
	}
	if !whole {
		return
	}
	state, identity := v.Device.State, v.Device.Identity
	switch {
	case state == identity:
		v.fail("the same directory as device.state: a factory reset erases state and keeps identity", "", "device", "identity")
	case inside(identity, state):
		v.fail("lies inside device.state, which a factory reset erases", "", "device", "identity")
	case inside(state, identity):
		v.fail("lies inside device.identity, which a factory reset keeps", "", "device", "state")
	}
}

func (v *validator) services(checks []Check) {
	seen := map[string]Service{}
	for _, s := range v.Services {
		before := len(v.errs)
		v.service(s)
		if first, twice := seen[s.Name]; twice && s.Name != "" {
			v.errs = append(v.errs, s.fault("name", fmt.Sprintf("used twice, first in line %d", first.lines["name"])))
		}
		seen[s.Name] = s
		if len(v.errs) > before {
			continue // one mistake, one message: checks may rely on what was tested here
		}
		for _, check := range checks {
			v.adopt(s, check(s))
		}
	}
}

// adopt takes over the errors of a Check, joined or alone.
func (v *validator) adopt(s Service, err error) {
	var fault *Error
	switch e := err.(type) {
	case nil:
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			v.adopt(s, one)
		}
	default:
		if !errors.As(err, &fault) {
			fault = s.fault("", err.Error())
			fault.Err = err
		}
		v.errs = append(v.errs, fault)
	}
}

func (v *validator) service(s Service) {
	wrong := func(key, text, hint string) {
		e := s.fault(key, text)
		e.Hint = hint
		v.errs = append(v.errs, e)
	}
	switch {
	case s.Name == "":
		wrong("name", "has no value", `write name = "rtsp", for example`)
	case !shortName.MatchString(s.Name):
		wrong("name", "want a-z, then up to 31 of a-z 0-9 -", "")
	}
	if s.Type == "" {
		wrong("type", "has no value", `write type = "rtsp", "http", "ssh" or "tcp"`)
	} else if !shortName.MatchString(s.Type) {
		wrong("type", settings.Quote(s.Type)+" is no type of service", `want "rtsp", "http", "ssh" or "tcp"`)
	}
	if s.Address == "" {
		wrong("address", "has no value", `write address = "127.0.0.1:554", for example`)
	} else if text := v.checkTarget(s.Address); text != "" {
		wrong("address", text, "")
	}
	if text, hint := serviceAccess.Check(s.Access); text != "" {
		wrong("access", text, hint)
	}
	if s.Credentials != "" {
		if text := checkFile(s.Credentials); text != "" {
			wrong("credentials", text, "")
		}
	}
}

// checkTarget looks at what can be known of a service's address without asking
// anybody: form, and whether it leads back to ourselves.
func (v *validator) checkTarget(address string) string {
	if len(address) > maxAddressBytes {
		return fmt.Sprintf("longer than %d bytes", maxAddressBytes)
	}
	if i := strings.IndexFunc(address, func(r rune) bool { return !unicode.IsGraphic(r) || r == ' ' || r == utf8.RuneError }); i >= 0 {
		return settings.Quote(address) + " contains a space or an unprintable character"
	}
	if path, ok := unixPath(address); ok {
		if filepath.Clean(path) == v.Socket {
			return "is the control socket of keyholed itself: whoever reaches it commands the device"
		}
		return ""
	}
	for _, listen := range v.Device.Listen {
		if sameListener(address, listen) {
			return fmt.Sprintf("leads back to keyholed itself, which listens on %s", settings.Quote(listen))
		}
	}
	return ""
}

func unixPath(address string) (string, bool) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return path, true
	}
	return address, strings.HasPrefix(address, "/")
}

// sameListener reports whether dialling target would reach our own listener.
// Addresses of this machine's interfaces are not known here; the daemon asks
// again when it dials.
func sameListener(target, listen string) bool {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return false
	}
	listenHost, listenPort, err := net.SplitHostPort(listen)
	if err != nil || port != listenPort {
		return false
	}
	if host == "localhost" || host == "" {
		host = "127.0.0.1"
	}
	to, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	to = to.Unmap().WithZone("")
	at, err := netip.ParseAddr(listenHost)
	if err != nil || at.IsUnspecified() {
		return to.IsLoopback() || to.IsUnspecified()
	}
	at = at.Unmap().WithZone("")
	return to == at || to.IsUnspecified() && at.IsLoopback()
}

func (v *validator) pairing() {
	works := len(v.Pairing.Modes) == 0 // nobody can pair, and that is what was asked for
	for i, mode := range v.Pairing.Modes {
		works = works || slices.Contains(pairingModes.Allowed, mode)
		if text, hint := pairingModes.Check(mode); slices.Contains(pairingModes.Later, mode) {
			at := []string{"pairing", "modes", strconv.Itoa(i)}
			v.warnings = append(v.warnings, v.doc.Fault(text, "", at...))
		} else if text != "" {
			v.fail(text, hint, "pairing", "modes", strconv.Itoa(i))
		} else if slices.Contains(v.Pairing.Modes[:i], mode) {
			v.fail(settings.Quote(mode)+" is listed twice", "", "pairing", "modes", strconv.Itoa(i))
		}
	}
	has := func(mode string) bool { return slices.Contains(v.Pairing.Modes, mode) }
	if works && len(v.Pairing.Modes) > 0 && !has(modeButton) && !has(modeLabel) && !has(modeCentral) {
		switch {
		case !has(modeCode):
			v.fail(`"invite" comes from somebody who has paired: nobody could be the first`, `add "button", "code" or "label"`, "pairing", "modes")
		case v.Board.Profile == BoardNone:
			v.fail(`"code" needs a display, and this device has no board: nobody could pair`, `add "button", or give the device a board`, "pairing", "modes")
		}
	}
	if !works {
		v.fail("none of these modes is in this version: nobody could pair", "want "+settings.OneOf(pairingModes.Allowed), "pairing", "modes")
	}
	roles := v.givenRoles()
	if v.Pairing.Role == "owner" {
		v.fail(`"owner" is given to the first user alone: want `+settings.OneOf(roles.Allowed), "", "pairing", "role")
	} else if text, hint := roles.Check(v.Pairing.Role); text != "" {
		v.fail(text, hint, "pairing", "role")
	}
	if n := len(v.Pairing.Interfaces); n > maxInterfaces {
		v.fail(fmt.Sprintf("%d interfaces: at most %d are allowed", n, maxInterfaces), "", "pairing", "interfaces")
	}
	for i, name := range v.Pairing.Interfaces {
		if name == "" || len(name) > maxIfNameBytes || name == "." || name == ".." ||
			strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == ':' }) {
			v.fail(settings.Quote(name)+` is no name of a network interface: want one such as "br0"`, "", "pairing", "interfaces", strconv.Itoa(i))
		}
	}
}

func (v *validator) board() {
	profile := v.Board.Profile
	if strings.ContainsAny(profile, "/.") {
		v.fail("board files are not in this version: want "+settings.OneOf(boardProfiles.Allowed), "", "board", "profile")
		return
	}
	if text, hint := boardProfiles.Check(profile); text != "" {
		v.fail(text, hint, "board", "profile")
		return
	}
	switch address, err := netip.ParseAddrPort(v.Board.Web); {
	case v.Board.Web == "":
	case profile != BoardSimulated:
		v.fail(`only the simulated board has a page: want profile = "simulated", or no web`, "", "board", "web")
	case err != nil || !address.Addr().IsLoopback():
		v.fail(settings.Quote(v.Board.Web)+` is no loopback address: want one such as "127.0.0.1:7444"`, "", "board", "web")
	}
}

const (
	minTunnelIdle = 10 * time.Second // shorter would cut a web page that its reader looks at
	maxTunnelIdle = 7 * 24 * time.Hour
)

func (v *validator) limits() {
	l := v.Limits
	for _, n := range []struct {
		key       string
		value     int
		low, high int
	}{
		{"unauthenticated", l.Unauthenticated, 8, 4096},
		{"unpaired", l.Unpaired, 1, 1024},
		{"sessions", l.Sessions, 1, 16384},
		{"tunnels", l.Tunnels, 1, 4096},
		{"tunnels_per_peer", l.TunnelsPerPeer, 1, 4096},
	} {
		if text := settings.Within(n.value, n.low, n.high); text != "" {
			v.fail(text, "", "limits", n.key)
		}
	}
	if l.TunnelsPerPeer > l.Tunnels && l.Tunnels > 0 {
		v.fail(fmt.Sprintf("%d is more than limits.tunnels, which is %d", l.TunnelsPerPeer, l.Tunnels), "", "limits", "tunnels_per_peer")
	}
	if l.TunnelIdle < minTunnelIdle || l.TunnelIdle > maxTunnelIdle {
		v.fail(fmt.Sprintf("%v is out of range: want 10s to 168h", l.TunnelIdle), "", "limits", "tunnel_idle")
	}
}

func checkName(name string) string {
	switch n := utf8.RuneCountInString(name); {
	case n == 0 || strings.TrimSpace(name) == "":
		return "empty: want 1 to 64 printable characters"
	case n > maxNameRunes:
		return fmt.Sprintf("%d characters: at most %d are allowed", n, maxNameRunes)
	}
	// IsPrint excludes control characters, line ends and the characters that
	// change the direction of writing, with which a name could imitate another.
	if i := strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return settings.Quote(name) + " contains a character that cannot be printed"
	}
	return ""
}

// checkPath looks at a path that is absolute already.
func checkPath(path string) string {
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

// checkFile is checkPath for a file.
func checkFile(path string) string { return strings.ReplaceAll(checkPath(path), "directory", "file") }

// inside reports whether path lies below dir. Both are absolute and clean.
func inside(path, dir string) bool {
	return strings.HasPrefix(path, dir+string(filepath.Separator))
}
