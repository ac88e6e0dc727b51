package client

import (
	"errors"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	id := fingerprint(7).ID()
	for _, c := range []struct {
		in   string
		want Target
	}{
		{"Front door", Target{Name: "Front door"}},
		{"front", Target{Name: "front"}},
		{string(id), Target{ID: id}},
		{string(id[:8]), Target{Name: string(id[:8])}},
		{"192.0.2.7:7443", Target{Address: "192.0.2.7:7443"}},
		{"192.0.2.7", Target{Address: "192.0.2.7:7443"}},
		{"2001:db8::7", Target{Address: "[2001:db8::7]:7443"}},
		{"[2001:db8::7]", Target{Address: "[2001:db8::7]:7443"}},
		{"[2001:db8::7]:1", Target{Address: "[2001:db8::7]:1"}},
		{"[fe80::7%eth0]:7443", Target{Address: "[fe80::7%eth0]:7443"}},
		{"cam.example.net:7443", Target{Address: "cam.example.net:7443"}},
		{"cam.local", Target{Address: "cam.local:7443"}},
		{string(id) + ".local", Target{ID: id, Address: string(id) + ".local:7443"}},
		{string(id) + "@192.0.2.7", Target{ID: id, Address: "192.0.2.7:7443"}},
		{"alice@home", Target{Name: "alice@home"}},
	} {
		if got, err := ParseTarget(c.in); err != nil || got != c.want {
			t.Errorf("ParseTarget(%q) = %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", maxTextBytes+1), "192.0.2.7:0", "192.0.2.7:65536", "192.0.2.7:07443", "host name:7443",
		":7443", "-x:7443", "a/b:7443", string(id) + "@nowhere", "keyhole:abc", "host:", "host:http"} {
		if got, err := ParseTarget(bad); err == nil {
			t.Errorf("ParseTarget(%q) = %+v", bad, got)
		}
	}
}

func TestLookup(t *testing.T) {
	h := newHome(t)
	var many *AmbiguousError
	var missing *NotFoundError
	if _, err := h.Only(); !errors.As(err, &missing) {
		t.Errorf("Only of nothing: %v", err)
	}
	for n, name := range []string{"Front door", "Front gate", "Garage", "garage"} {
		if err := h.Remember(device(byte(n+1), name, "192.0.2.7:"+string(rune('1'+n)))); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		in   string
		want byte // 0: ambiguous, 255: not found
	}{
		{"Front door", 1}, {"front D", 1}, {"front g", 2}, {"front", 0}, {"gar", 0}, {"Garage", 0}, {"cellar", 255},
		{string(fingerprint(3).ID()), 3}, {string(fingerprint(4).ID()[:5]), 4}, {string(fingerprint(9).ID()), 255},
		{"192.0.2.7:2", 2}, {"192.0.2.7:9", 255},
	} {
		d, err := h.Lookup(c.in)
		switch {
		case c.want == 0 && !errors.As(err, &many), c.want == 255 && !errors.As(err, &missing):
			t.Errorf("Lookup(%q) = %v, %v", c.in, d, err)
		case c.want > 0 && c.want < 255 && (err != nil || d.Fingerprint != fingerprint(c.want)):
			t.Errorf("Lookup(%q) = %v, %v", c.in, d, err)
		}
	}
	if _, err := h.Only(); !errors.As(err, &many) {
		t.Errorf("Only of four: %v", err)
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"Front door", string(fingerprint(1).ID()), "[fe80::7%eth0]:7443", "x.local", "a@b:1", "::", "[:]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTarget(s)
		if err != nil {
			return
		}
		if got == (Target{}) {
			t.Fatalf("%q names nothing and is no error", s)
		}
		if got.Address != "" {
			if again, err := ParseTarget(got.Address); err != nil || again.Address != got.Address {
				t.Fatalf("%q: the address %q is read as %+v, %v", s, got.Address, again, err)
			}
		}
	})
}
