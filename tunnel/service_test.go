package tunnel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
)

func mustService(t testing.TB, name, typ, address string) Service {
	t.Helper()
	s, err := ParseService(name, typ, address, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServicesThatAreRight(t *testing.T) {
	for _, c := range []struct{ typ, address, network, target string }{
		{"rtsp", "127.0.0.1:554", "tcp", "127.0.0.1:554"},
		{"rtsp", "127.0.0.1", "tcp", "127.0.0.1:554"},
		{"http", "camera.example.net", "tcp", "camera.example.net:80"},
		{"http", "localhost:8080", "tcp", "localhost:8080"},
		{"ssh", "::1", "tcp", "[::1]:22"},
		{"ssh", "[::1]", "tcp", "[::1]:22"},
		{"tcp", "[2001:db8::1]:65535", "tcp", "[2001:db8::1]:65535"},
		{"tcp", "[fe80::1%eth0]:1", "tcp", "[fe80::1%eth0]:1"},
		{"tcp", "my_cam.lan.:9", "tcp", "my_cam.lan.:9"},
		{"http", "unix:/run/x.sock", "unix", "/run/x.sock"},
		{"http", "unix:/run/../run/x.sock", "unix", "/run/x.sock"},
	} {
		s, err := ParseService("a", c.typ, c.address, "")
		if err != nil || s.target != (target{c.network, c.target}) || s.Access != AccessRole {
			t.Errorf("ParseService(%s, %s) = %+v, %v, want %s %s", c.typ, c.address, s.target, err, c.network, c.target)
		}
	}
}

func TestServicesThatAreWrong(t *testing.T) {
	for _, c := range []struct{ name, typ, address, access, field, want string }{
		{"", "tcp", "h:1", "", "name", "not a service name"},
		{"9a", "tcp", "h:1", "", "name", "not a service name"},
		{"Cam", "tcp", "h:1", "", "name", "not a service name"},
		{strings.Repeat("a", 33), "tcp", "h:1", "", "name", "not a service name"},
		{"a", "udp", "h:1", "", "type", "want one of rtsp, http, ssh, tcp"},
		{"a", "tcp", "", "", "address", "is empty"},
		{"a", "tcp", "h", "", "address", "names no port"},
		{"a", "tcp", "h:", "", "address", "the port is missing"},
		{"a", "tcp", ":80", "", "address", "names no host"},
		{"a", "tcp", "h:0", "", "address", "want 1 to 65535"},
		{"a", "tcp", "h:65536", "", "address", "want 1 to 65535"},
		{"a", "tcp", "h:+80", "", "address", "want 1 to 65535"},
		{"a", "tcp", "h:080", "", "address", "want 1 to 65535"},
		{"a", "tcp", "h:http", "", "address", "want 1 to 65535"},
		{"a", "tcp", "2001:db8::1:x", "", "address", "in brackets"},
		{"a", "tcp", "0.0.0.0:80", "", "address", "every address"},
		{"a", "tcp", "[::]:80", "", "address", "every address"},
		{"a", "tcp", "224.0.0.251:80", "", "address", "group of machines"},
		{"a", "tcp", "127.1:80", "", "address", "ends in a number"},
		{"a", "tcp", "0x7f000001:80", "", "address", "ends in a number"},
		{"a", "tcp", "a b:80", "", "address", "neither an IP address nor a host name"},
		{"a", "tcp", "käse:80", "", "address", "neither an IP address nor a host name"},
		{"a", "tcp", "http://h:80", "", "address", "want HOST:PORT"},
		{"a", "tcp", strings.Repeat("a.", 127) + "b:80", "", "address", "at most 253 bytes"},
		{"a", "http", "unix:x.sock", "", "address", "absolute path"},
		{"a", "http", "unix:", "", "address", "absolute path"},
		{"a", "http", "unix:/run/", "", "address", "is a directory"},
		{"a", "http", "unix:/" + strings.Repeat("x", 107), "", "address", "at most 107 bytes"},
		{"a", "http", "unix:/a\x00b", "", "address", "no zero bytes"},
		{"a", "ssh", "h", "application", "access", "no password of its own"},
		{"a", "http", "h", "everyone", "access", `want "role" or "application"`},
	} {
		s, err := ParseService(c.name, c.typ, c.address, c.access)
		var field *FieldError
		if !errors.As(err, &field) || field.Field != c.field || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseService(%.40q, %q, %.40q, %q) = %v, %v, want %s: %s", c.name, c.typ, c.address, c.access, s, err, c.field, c.want)
		}
	}
}

func TestTableRefusesDoublesAndOurOwnListeners(t *testing.T) {
	own := func(network, address string) bool {
		return network == "tcp" && address == "127.0.0.1:7443" || network == "unix" && address == "/run/keyhole/keyholed.sock"
	}
	for _, c := range []struct {
		services []Service
		want     string
	}{
		{[]Service{mustService(t, "a", "tcp", "h:1"), mustService(t, "a", "tcp", "h:2")}, "another of that name"},
		{[]Service{mustService(t, "a", "tcp", "127.0.0.1:7443")}, "leads back to"},
		{[]Service{mustService(t, "a", "tcp", "[::ffff:127.0.0.1]:7443")}, "leads back to"},
		{[]Service{mustService(t, "a", "tcp", "unix:/run/keyhole/./keyholed.sock")}, "leads back to"},
	} {
		if _, err := NewTable(c.services, own); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("NewTable(%v) = %v, want %q", c.services, err, c.want)
		}
	}
	table, err := NewTable([]Service{mustService(t, "b", "tcp", "h:1"), mustService(t, "a", "tcp", "h:1")}, own)
	if err != nil {
		t.Fatal(err)
	}
	if all := table.All(); len(all) != 2 || all[0].Name != "b" {
		t.Errorf("All() = %v, want the order of the configuration", all)
	}
	var none *Table
	if _, ok := none.Lookup("a"); ok || none.All() != nil {
		t.Error("the nil table has services")
	}
}

func TestParseAuthority(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"rtsp", "rtsp"}, {"rtsp:554", "rtsp"}, {"a:1", "a"}, {"a-1:65535", "a-1"},
		{strings.Repeat("a", 32) + ":65535", strings.Repeat("a", 32)},
		{"", ""}, {":554", ""}, {"rtsp:", ""}, {"rtsp:0", ""}, {"rtsp:65536", ""}, {"rtsp:0554", ""}, {"rtsp:+1", ""},
		{"rtsp:554:554", ""}, {"RTSP:554", ""}, {"rtsp.:554", ""}, {"127.0.0.1:22", ""}, {"[::1]:22", ""}, {"::1", ""},
		{"rtsp%3a554", ""}, {"%72tsp", ""}, {"me@rtsp:554", ""}, {"rtsp/:554", ""}, {"rtsp\r\n", ""}, {" rtsp", ""}, {"rtsp:5 5", ""},
		{"ｒtsp:554", ""}, {"rtsp:５", ""}, {"a_b", ""}, {"-a", ""}, {"9", ""}, {strings.Repeat("a", 33), ""}, {"a:000001", ""},
	} {
		got, err := ParseAuthority(c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("ParseAuthority(%q) = %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

// No request can reach what the configuration does not name: 10,000 odd
// authorities end in the error or in the very service they name.
func TestTenThousandOddTargetsReachNothing(t *testing.T) {
	table, err := NewTable([]Service{mustService(t, "rtsp", "rtsp", "127.0.0.1:554"), mustService(t, "web", "http", "unix:/run/w.sock")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	named, refused := 0, 0
	for _, odd := range oddTargets(10_000) {
		name, err := ParseAuthority(odd)
		s, found := table.Lookup(name)
		if err != nil {
			refused++
			if name != "" || found {
				t.Fatalf("ParseAuthority(%.80q) = %q with an error", odd, name)
			}
			continue
		}
		bare, _, _ := strings.Cut(odd, ":")
		if found {
			named++
			if (bare != "rtsp" && bare != "web") || s.Name != bare {
				t.Fatalf("%.80q resolved to %v", odd, s)
			}
		} else if !validName(bare) {
			t.Fatalf("%.80q passed for a name", odd)
		}
	}
	if named == 0 || refused < 5000 {
		t.Errorf("%d named, %d refused: the targets are not odd enough to prove anything", named, refused)
	}
}

// oddTargets are n different authorities, the same in every run.
func oddTargets(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	hosts := []string{
		"", "rtsp", "web", "RTSP", "localhost", "127.0.0.1", "127.1", "0x7f.1", "2130706433", "0", "0.0.0.0", "169.254.169.254",
		"192.0.2.1", "[::1]", "::1", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "[::]", "rtsp.", ".rtsp", "rtsp.example.net",
		"rtsp@127.0.0.1", "127.0.0.1@rtsp", "user:pass@rtsp", "rtsp#", "rtsp?x", "rtsp/../web", "//rtsp", "http://rtsp",
		"rtsp%00", "%72tsp", "rtsp%2e", "%5b::1%5d", "rtsp\x00", "rtsp\r\nHost: x", "rtsp\n", "\trtsp", "rtsp ", "ｒｔｓｐ",
		"rtsp\u200b", "r\u0442sp", "käse", "\xff\xfe", "unix:/run/w.sock", "/run/w.sock", "unix", "..", "*", "$(id)", "';--",
		strings.Repeat("a", 32), strings.Repeat("a", 33), strings.Repeat("rtsp", 2560), strings.Repeat("%41", 3000), strings.Repeat("[", 10240),
	}
	ports := []string{
		"", ":", ":1", ":22", ":554", ":7443", ":65535", ":65536", ":0", ":-1", ":+1", ":00554", ":1e3", ":0x16", ":ssh", ":554:22", ":５５４",
		": 554", ":554 ", ":554\r\n", ":554/", ":554@127.0.0.1:22", ":99999999999999999999", ":%35", ":\x00",
	}
	seen := map[string]bool{}
	list := make([]string, 0, n)
	add := func(s string) {
		if !seen[s] && len(list) < n {
			seen[s] = true
			list = append(list, s)
		}
	}
	for _, h := range hosts {
		for _, p := range ports {
			add(h + p)
		}
	}
	for len(list) < n {
		h, p := hosts[r.IntN(len(hosts))], ports[r.IntN(len(ports))]
		switch odd := h + p; r.IntN(4) {
		case 0: // any IPv4 address, any port
			add(fmt.Sprintf("%d.%d.%d.%d%s", r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256), p))
		case 1: // any IPv6 address
			ip := make(net.IP, 16)
			for i := range ip {
				ip[i] = byte(r.IntN(256))
			}
			add("[" + ip.String() + "]" + p)
		case 2: // one byte put in
			i := r.IntN(len(odd) + 1)
			add(odd[:i] + string([]byte{byte(r.IntN(256))}) + odd[i:])
		case 3: // one byte changed
			if len(odd) > 0 {
				i := r.IntN(len(odd))
				add(odd[:i] + string([]byte{byte(r.IntN(256))}) + odd[i+1:])
			}
		}
	}
	return list
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range oddTargets(1500) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := ParseAuthority(s)
		if err != nil {
			if name != "" {
				t.Fatalf("%q: name %q with an error", s, name)
			}
			return
		}
		if !validName(name) || !strings.HasPrefix(s, name) || len(s) > maxAuthorityBytes {
			t.Fatalf("ParseAuthority(%q) = %q", s, name)
		}
		if rest := s[len(name):]; rest != "" {
			if _, err := parsePort(rest[1:]); rest[0] != ':' || err != nil {
				t.Fatalf("%q: %q is no port", s, rest)
			}
		}
	})
}

func FuzzParseService(f *testing.F) {
	for _, s := range []string{"127.0.0.1:554", "[::1]:80", "unix:/run/x.sock", "cam.lan", "127.1:1", "[fe80::1%eth0]:1", "h:99999"} {
		f.Add("a", "tcp", s, "role")
	}
	f.Fuzz(func(t *testing.T, name, typ, address, access string) {
		s, err := ParseService(name, typ, address, access)
		if err != nil {
			return
		}
		if s.target.network == "tcp" {
			host, port, err := net.SplitHostPort(s.target.address)
			if err != nil || host == "" {
				t.Fatalf("%q became %q: %v", address, s.target.address, err)
			}
			if _, err := parsePort(port); err != nil {
				t.Fatalf("%q became port %q", address, port)
			}
		} else if !strings.HasPrefix(s.target.address, "/") {
			t.Fatalf("%q became %q", address, s.target.address)
		}
	})
}
