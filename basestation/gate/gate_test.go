package gate

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/protocol/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const denyText = `# who is kept out
client 1111111111111111111111111111111111111111111111111111111111111111
device yzid2zaccqs7whl4awmmvw3ua6   # sold
address 192.0.2.0/24
address 192.0.2.128/25
address 2001:db8::7
country DE
`

const countryText = `192.0.2.0/24,AT
198.51.100.0,198.51.100.127,DE
"2001:db8:1::","2001:db8:1:ffff:ffff:ffff:ffff:ffff","de"
`

func key(digit string) identity.Fingerprint {
	f, _ := identity.ParseFingerprint(strings.Repeat(digit, 64))
	return f
}

// TestRefuses: by key, by device, by address and by country; who is unknown comes
// through.
func TestRefuses(t *testing.T) {
	g, err := Open(Config{Deny: write(t, "deny", denyText), Countries: write(t, "countries", countryText)})
	if err != nil {
		t.Fatal(err)
	}
	const some = identity.ID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	for _, row := range []struct {
		client  string
		device  identity.ID
		source  string
		want    string
		country string
	}{
		{"2", some, "203.0.113.9", "", ""},
		{"1", some, "203.0.113.9", "key", ""},
		{"2", "yzid2zaccqs7whl4awmmvw3ua6", "203.0.113.9", "device", ""},
		{"2", some, "192.0.2.0", "address", "AT"},
		{"2", some, "192.0.2.200", "address", "AT"},
		{"2", some, "::ffff:192.0.2.255", "address", "AT"},
		{"2", some, "192.0.3.0", "", ""},
		{"2", some, "192.0.1.255", "", ""},
		{"2", some, "2001:db8::7", "address", ""},
		{"2", some, "2001:db8::8", "", ""},
		{"2", some, "198.51.100.127", "country", "DE"},
		{"2", some, "198.51.100.128", "", ""},
		{"2", some, "2001:db8:1:5::1", "country", "DE"},
		{"2", some, "fe80::1%eth0", "", ""},
		{"2", some, "::", "", ""},
	} {
		source := netip.MustParseAddr(row.source)
		if got := g.Refuses(key(row.client), row.device, source); got != row.want {
			t.Errorf("%s at %s to %s: refused by %q, want %q", row.client, row.source, row.device, got, row.want)
		}
		if got := g.Country(source); got != row.country {
			t.Errorf("%s is in %q, want %q", row.source, got, row.country)
		}
	}
	if why := g.Refuses(key("2"), some, netip.Addr{}); why != "" {
		t.Errorf("no address: %q", why)
	}
}

func TestUnknownCountry(t *testing.T) {
	g, err := Open(Config{Deny: write(t, "deny", "country ??\n"), Countries: write(t, "countries", countryText)})
	if err != nil {
		t.Fatal(err)
	}
	if why := g.Refuses(key("2"), "", netip.MustParseAddr("203.0.113.1")); why != "country" {
		t.Errorf("an address that the file does not have: %q", why)
	}
	if why := g.Refuses(key("2"), "", netip.MustParseAddr("192.0.2.1")); why != "" {
		t.Errorf("one that it has: %q", why)
	}
}

func TestBadFiles(t *testing.T) {
	for _, text := range []string{
		"client 1234", "device x", "address 192.0.2.1/24", "address example.net", "address fe80::1%eth0", "address ::ffff:192.0.2.1", "country Germany", "country 1x", "user x", "client", "client ",
		strings.Repeat("x", maxLineBytes+1), "\x00",
	} {
		if _, err := parseDenied([]byte("# a comment\n" + text)); err == nil || !strings.Contains(err.Error(), "line 2: ") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	for _, text := range []string{
		"192.0.2.0/24", "192.0.2.0/24,Germany", "192.0.2.9,192.0.2.1,DE", "192.0.2.1,2001:db8::1,DE", "a,b,c,DE", "192.0.2.0/24,DE\n192.0.2.128/25,AT", "192.0.2.0/24,DE\n192.0.2.0/24,DE",
	} {
		if _, err := parseCountries([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if _, err := Open(Config{Deny: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a file that is not there")
	}
	if _, err := Open(Config{Deny: write(t, "deny", "country DE")}); err == nil || !strings.Contains(err.Error(), "no country file") {
		t.Errorf("countries without a country file: %v", err)
	}
	if _, err := Open(Config{Deny: t.TempDir()}); err == nil {
		t.Error("a directory")
	}
}

// TestReload: a changed file counts within seconds; one that vanishes or is broken
// does not open the gate.
func TestReload(t *testing.T) {
	path := write(t, "deny", "address 192.0.2.1\n")
	g, err := Open(Config{Deny: path})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(a string) bool { return g.Refuses(key("2"), "", netip.MustParseAddr(a)) != "" }
	change := func(text string) {
		t.Helper()
		aside := path + ".new"
		if err := os.WriteFile(aside, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
		g.look()
	}
	change("address 192.0.2.1\naddress 192.0.2.2\n")
	if !refused("192.0.2.2") {
		t.Error("the new list does not count")
	}
	change("address 192.0.2.2\nrubbish\n")
	if !refused("192.0.2.1") {
		t.Error("a broken list took the place of the good one")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	g.look()
	g.look()
	if !refused("192.0.2.1") {
		t.Error("a missing list opened the gate")
	}
	change("address 192.0.2.3, but not yet whole")
	change("address 192.0.2.3\n")
	if refused("192.0.2.1") || !refused("192.0.2.3") {
		t.Error("the mended list does not count")
	}
}

func TestRunLooks(t *testing.T) {
	path := write(t, "deny", "address 192.0.2.1\n")
	g, err := Open(Config{Deny: path})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error)
		go func() { done <- g.Run(t.Context()) }()
		if err := os.WriteFile(path, []byte("address 192.0.2.22\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookEvery + time.Millisecond)
		synctest.Wait()
		if g.Refuses(key("2"), "", netip.MustParseAddr("192.0.2.22")) == "" {
			t.Error("the change does not count")
		}
		t.Cleanup(func() { <-done })
	})
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte(denyText))
	f.Add([]byte(countryText))
	f.Add([]byte("address 0.0.0.0/0\naddress ::/0\n"))
	probes := []netip.Addr{{}, netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("::"), netip.MustParseAddr("192.0.2.1")}
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := parseDenied(data); err == nil {
			for _, a := range probes {
				in := false
				for _, s := range d.address {
					in = in || a.IsValid() && !a.Less(s.from) && !s.to.Less(a)
				}
				if d.address.has(a) != in {
					t.Errorf("%s is in: %v, found: %v", a, in, !in)
				}
			}
		}
		if c, err := parseCountries(data); err == nil {
			for _, a := range probes {
				c.of(a)
			}
		}
	})
}

func BenchmarkRefuses(b *testing.B) {
	var text bytes.Buffer
	for i := range 200_000 {
		fmt.Fprintf(&text, "%d.%d.%d.0/25,%c%c\n", 1+i>>16, i>>8&255, i&255, 'A'+i%26, 'B')
	}
	c, err := parseCountries(text.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	d, err := parseDenied([]byte(denyText))
	if err != nil {
		b.Fatal(err)
	}
	g := &Gate{}
	g.deny.now.Store(&d)
	g.where.now.Store(&c)
	source := netip.MustParseAddr("2.77.3.9")
	b.ReportAllocs()
	for b.Loop() {
		g.Refuses(key("2"), "aaaaaaaaaaaaaaaaaaaaaaaaaa", source)
	}
}
