package pairing

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

const testID = identity.ID("aaaqeayeaudaocajbifqydiob4")

func counted32(from byte) (b [32]byte) {
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func testToken() Token {
	return Token{[TokenBytes]byte(bytes.Clone(hexed("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf")))}
}

func hexed(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// goldenLinks are in docs/protocol.md as well.
var goldenLinks = []struct {
	text string
	link Link
}{
	{"keyhole:caaaqeayeaudaocajbifqydiob4ac6gctridu", Link{Kind: LinkCode, Device: testID, Code: Passcode{"12345678"}}},
	{"keyhole:laaaqeayeaudaocajbifqydiob4adzr2k3up5fcpvi", Link{Kind: LinkLabel, Device: testID, Label: LabelCode{"7K3MNQ8ZTA"}}},
	{"keyhole:iaaaqeayeaudaocajbifqydiob4ucq2fi5euwtkpkfjvkv2zlnov7mbq", Link{Kind: LinkInvite, Device: testID, Token: testToken()}},
	{"keyhole:iaaaqeayeaudaocajbifqydiob4ucq2fi5euwtkpkfjvkv2zlnov4aqaaicamcakbqhbaequcymbuha6earcijrifiwc4mbsgq3dqor4hyqmjqxgzjomv4gc3lqnrss43tfoqorggum", Link{Kind: LinkInvite, Device: testID, Token: testToken(),
		Base: LinkBase{Addresses: []string{"base.example.net:7443"}, Roots: [][32]byte{counted32(0)}}}},
	{"keyhole:iaaaqeayeaudaocajbifqydiob4ucq2fi5euwtkpkfjvkv2zlnov4baaaicamcakbqhbaequcymbuha6earcijrifiwc4mbsgq3dqor4hzaeercgjbfeytsqkjkfmwc2lrpgaytemzugu3doobzhi5typj6h77maaacaea3x7zaaeg3qaaaaaaaaaaaaaaaaaabdujqcyqaahcfs", Link{Kind: LinkInvite, Device: testID, Token: testToken(),
		Base: LinkBase{Addresses: []string{"192.0.2.1:443", "[2001:db8::1]:7443", "b:1"}, Roots: [][32]byte{counted32(0), counted32(32)}}}},
}

func TestLinksGolden(t *testing.T) {
	for _, g := range goldenLinks {
		text, err := g.link.Text()
		if err != nil || text != g.text {
			t.Errorf("got %s, %v; want %s", text, err, g.text)
		}
		for _, form := range []string{text, strings.ToUpper(text), " " + text + "\n"} {
			l, err := ParseLink(form)
			if err != nil || !reflect.DeepEqual(l, g.link) {
				t.Errorf("%s: got %#v, %v", form, l, err)
			}
		}
	}
}

// Every character that is lost or changed is noticed, but for one in 65,536.
func TestDamagedLinksAreRefused(t *testing.T) {
	for _, g := range goldenLinks {
		for i := len(LinkScheme); i < len(g.text); i++ {
			other := byte('a')
			if g.text[i] == other {
				other = 'b'
			}
			for _, bad := range []string{g.text[:i], g.text[:i] + g.text[i+1:], g.text[:i] + string(other) + g.text[i+1:]} {
				if l, err := ParseLink(bad); !errors.Is(err, ErrNotLink) {
					t.Errorf("%s is taken for %#v", bad, l)
				}
			}
		}
		if _, err := ParseLink(g.text + "a"); !errors.Is(err, ErrNotLink) {
			t.Errorf("a letter too many is taken")
		}
	}
}

func TestOddLinksCannotBeMade(t *testing.T) {
	good := goldenLinks[3].link
	for name, change := range map[string]func(*Link){
		"no id":          func(l *Link) { l.Device = "" },
		"no kind":        func(l *Link) { l.Kind = 'x' },
		"no code":        func(l *Link) { l.Kind = LinkCode },
		"no label":       func(l *Link) { l.Kind = LinkLabel },
		"no root":        func(l *Link) { l.Base.Roots = nil },
		"no address":     func(l *Link) { l.Base.Addresses = nil },
		"no port":        func(l *Link) { l.Base.Addresses = []string{"base.example.net"} },
		"port 0":         func(l *Link) { l.Base.Addresses = []string{"base.example.net:0"} },
		"a zone":         func(l *Link) { l.Base.Addresses = []string{"[fe80::1%eth0]:7443"} },
		"an odd name":    func(l *Link) { l.Base.Addresses = []string{"a b:7443"} },
		"many addresses": func(l *Link) { l.Base.Addresses = slicesRepeat("b:1", 9) },
		"many roots":     func(l *Link) { l.Base.Roots = make([][32]byte, 3) },
	} {
		l := good
		change(&l)
		if text, err := l.Text(); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func slicesRepeat(s string, n int) (list []string) {
	for range n {
		list = append(list, s)
	}
	return list
}

func TestLongestLinkCanBeRead(t *testing.T) {
	l := Link{Kind: LinkInvite, Device: testID, Token: testToken(), Base: LinkBase{Roots: [][32]byte{{}, {1}}}}
	for i := range maxLinkBases {
		l.Base.Addresses = append(l.Base.Addresses, strings.Repeat(string(rune('a'+i)), maxHostBytes)+":65535")
	}
	text, err := l.Text()
	if err != nil || len(text) > MaxLinkBytes {
		t.Fatalf("%d bytes, %v; at most %d", len(text), err, MaxLinkBytes)
	}
	if _, err := ParseLink(text); err != nil {
		t.Fatal(err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	label := LabelCode{"7K3MNQ8ZTA"}
	for _, secret := range []any{testToken(), label, goldenLinks[3].link, label.Record(deviceKey)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			if s := fmt.Sprintf(verb, secret); !strings.HasPrefix(s, "[") || len(s) > 16 {
				t.Errorf("%s of %T: %s", verb, secret, s)
			}
		}
	}
}

func FuzzLink(f *testing.F) {
	for _, g := range goldenLinks {
		f.Add(g.text)
		f.Add(strings.ToUpper(g.text))
	}
	f.Add("keyhole:i")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLink(s)
		if err != nil {
			return
		}
		text, err := l.Text()
		if err != nil || text != strings.ToLower(strings.TrimSpace(s)) {
			t.Fatalf("%q parses, and is written as %q, %v", s, text, err)
		}
	})
}

func TestLabelsAreReadAsPeopleTypeThem(t *testing.T) {
	want := LabelCode{"01ABC0V1Z9"}
	for _, typed := range []string{"01ABC-0V1Z9", "01abc 0v1z9", "oiabc-OULZ9\n", " 0 1 A B C 0 V 1 Z 9 ", "01ABC\u20130V1Z9"} {
		if got, err := ParseLabel(typed); err != nil || got != want {
			t.Errorf("%q: got %q, %v", typed, got.text, err)
		}
	}
	for _, typed := range []string{"", "12345678", "01ABC-0V1Z", "01ABC-0V1Z99", "01ABC-0V1Z!", "01ABC-0V1Z\u00c4", strings.Repeat(" ", 200)} {
		if got, err := ParseLabel(typed); !errors.Is(err, ErrNotLabel) {
			t.Errorf("%q: got %q, %v", typed, got.text, err)
		}
	}
	seen := map[LabelCode]bool{}
	for range 1000 {
		l := NewLabel()
		if again, err := ParseLabel(l.Grouped()); err != nil || again != l || len(l.text) != labelChars || seen[l] {
			t.Fatalf("%q: %q, %v", l.text, again.text, err)
		}
		seen[l] = true
	}
}

func TestLabelRecordIsKept(t *testing.T) {
	r := NewLabel().Record(deviceKey)
	again, err := ParseLabelRecord(r.Bytes())
	if err != nil || !bytes.Equal(again.Bytes(), r.Bytes()) {
		t.Fatalf("%v", err)
	}
	for _, bad := range [][]byte{nil, r.Bytes()[1:], append(r.Bytes(), 0), append([]byte{2}, r.Bytes()[1:]...), make([]byte, LabelRecordBytes)} {
		if _, err := ParseLabelRecord(bad); !errors.Is(err, ErrLabelRecord) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func FuzzLabelRecord(f *testing.F) {
	f.Add(LabelCode{"7K3MNQ8ZTA"}.Record(deviceKey).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseLabelRecord(b); err == nil && !bytes.Equal(r.Bytes(), b) {
			t.Fatal("read otherwise than written")
		}
	})
}
