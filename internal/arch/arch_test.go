// Package arch keeps the floor plan true: which room may import which, and
// which room is the one door to a library. It reads import clauses only.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/keyholed/keyhole/"

// arrows says what a room may import of ours. A pattern ending in /* stands for
// everything below. Every room may import internal/*: small mechanisms that
// know nothing of the product. The first matching row counts; a folder that
// matches none is not on the floor plan.
var arrows = []struct {
	room string
	may  []string
}{
	{"internal/*", nil},
	{"testbed/*", []string{"protocol/*", "client", "daemon/*", "daemon", "tunnel", "hal", "hal/*", "basestation", "basestation/*"}},
	{"protocol/identity", nil},
	{"protocol/session", []string{"protocol/identity"}},
	{"protocol/api", []string{"protocol/identity"}},
	{"protocol/attach", []string{"protocol/identity"}},
	{"protocol/central", []string{"protocol/identity", "protocol/api"}},
	{"protocol/reach", []string{"protocol/identity", "protocol/attach"}},
	{"basestation/store", nil},
	{"basestation/store/storetest", []string{"basestation/store"}},
	{"basestation/memstore", []string{"basestation/store", "basestation/store/storetest"}},
	{"basestation/natsstore", []string{"basestation/store", "basestation/store/storetest"}},
	{"basestation/fleet", []string{"basestation/store", "basestation/memstore", "protocol/attach", "protocol/identity"}}, // memstore: tests
	{"basestation/relay", []string{"protocol/attach", "protocol/identity"}},
	{"basestation/registry", []string{"basestation/store", "basestation/memstore", "protocol/identity", "protocol/attach"}}, // memstore: tests
	{"basestation/push", []string{"basestation/store", "basestation/memstore"}},                                             // memstore is for tests
	{"basestation/admin", []string{"basestation/registry", "basestation/store", "basestation/memstore", "protocol/api", "protocol/attach", "protocol/identity"}}, // memstore: tests
	{"basestation/config", nil},
	{"basestation/gate", []string{"protocol/identity"}},
	{"basestation", []string{"basestation/store", "basestation/memstore", "basestation/fleet", "basestation/relay", "basestation/registry", "basestation/push", "protocol/attach", "protocol/identity"}}, // memstore: tests
	{"tunnel/tries", nil},
	{"tunnel/inject", nil},
	{"tunnel", []string{"tunnel/tries", "tunnel/inject"}},
	{"hal", nil},
	{"hal/*", []string{"hal", "hal/haltest"}}, // the suite is for the drivers' tests
	{"discovery", []string{"protocol/identity"}},
	{"acl", []string{"protocol/identity"}},
	{"authority", []string{"protocol/identity"}},
	{"pairing", []string{"protocol/identity", "pairing/spake2plus"}},
	{"pairing/spake2plus", nil},
	{"systemd", nil},
	{"daemon/config", []string{"protocol/identity", "authority"}},
	{"daemon/control", []string{"protocol/api", "protocol/identity"}},
	{"daemon", []string{"protocol/*", "tunnel", "tunnel/*", "hal", "hal/*", "discovery", "acl", "authority", "pairing", "systemd", "daemon/*"}},
	{"client", []string{"authority", "protocol/*", "discovery", "tunnel", "pairing"}},
	{"cmd/keyholed", []string{"daemon", "daemon/*", "systemd", "protocol/*"}},
	{"cmd/keyhole", []string{"client", "daemon/control", "protocol/*", "tunnel", "discovery", "daemon", "daemon/config", "hal/sim", "basestation", "basestation/memstore", "basestation/relay"}},
	{"cmd/keyhole-basestation", []string{"basestation", "basestation/*", "protocol/api", "protocol/identity", "protocol/attach", "systemd"}},
}

// onlyIn narrows an arrow to the one file that needs it.
var onlyIn = map[string]string{
	"cmd/keyhole -> daemon":                  "demo",
	"cmd/keyhole -> daemon/config":           "demo",
	"cmd/keyhole -> hal/sim":                 "demo",
	"cmd/keyhole -> basestation":             "demo",
	"cmd/keyhole -> basestation/memstore":    "demo",
	"cmd/keyhole -> basestation/relay":       "demo",
	"basestation/relay -> protocol/identity": "sealed", // a test that searches what is relayed
}

// doors names the one room that may import a library outside of tests; two, where
// the library is many in one.
var doors = map[string]string{
	"github.com/quic-go/quic-go":      "protocol/session",
	"github.com/flynn/noise":          "protocol/attach",
	"github.com/fxamacker/cbor":       "protocol/attach",
	"go.etcd.io/bbolt":                "acl",
	"github.com/vishvananda/netlink":  "internal/netstate",
	"github.com/grandcat/zeroconf":    "discovery",
	"github.com/miekg/dns":            "discovery",
	"github.com/coreos/go-systemd":    "systemd",
	"github.com/systemd/slog-journal": "systemd",
	"github.com/BurntSushi/toml":      "internal/settings",
	"github.com/spf13/cobra":          "cmd/keyhole",
	"github.com/spf13/pflag":          "cmd/keyhole",
	"golang.org/x/image":              "hal",
	"golang.org/x/term":               "cmd/keyhole",
	"rsc.io/qr":                       "internal/qrcode",
	"golang.org/x/text":               "internal/names",
	"golang.org/x/net":                "discovery, internal/datagram",
	"github.com/nats-io":              "basestation/natsstore",
	"periph.io":                       "hal/gpio",
	"filippo.io/nistec":               "pairing/spake2plus",
	"golang.org/x/crypto":             "pairing",
	"github.com/bluenviron/gortsplib": "(tests only)",
	"github.com/google/go-cmp":        "(tests only)",
	"go.uber.org/goleak":              "(tests only)",
	"github.com/rogpeppe/go-internal": "internal/testcmd",
	"pgregory.net/rapid":              "(tests only)",
}

func matches(pattern, room string) bool {
	if below, ok := strings.CutSuffix(pattern, "/*"); ok {
		return strings.HasPrefix(room, below+"/")
	}
	return pattern == room
}

// check returns what is wrong with file of room importing target, or "".
func check(room, file, target string) string {
	if strings.HasPrefix(target, "internal/") {
		return ""
	}
	for _, a := range arrows {
		if !matches(a.room, room) {
			continue
		}
		if !slices.ContainsFunc(a.may, func(p string) bool { return matches(p, target) }) {
			return room + "/" + file + " imports " + target + ": " + room + " may import only " +
				"[" + strings.Join(a.may, " ") + "] and internal/*"
		}
		if prefix, ok := onlyIn[room+" -> "+target]; ok && !strings.HasPrefix(file, prefix) {
			return room + "/" + file + " imports " + target + ": only " + prefix + "*.go may"
		}
		return ""
	}
	return room + " is not on the floor plan"
}

func checkDoor(room, file, library string) string {
	for prefix, door := range doors {
		if library != prefix && !strings.HasPrefix(library, prefix+"/") {
			continue
		}
		if !slices.Contains(strings.Split(door, ", "), room) && !strings.HasPrefix(room, "testbed") {
			return room + "/" + file + " imports " + library + ": the one door to it is " + door
		}
		return ""
	}
	if strings.Contains(strings.SplitN(library, "/", 2)[0], ".") &&
		!strings.HasPrefix(library, "golang.org/x/sys") && !strings.HasPrefix(library, "golang.org/x/sync") {
		return room + "/" + file + " imports " + library + ": a library without a door, add it to doors"
	}
	return ""
}

func TestArrowsAndDoors(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "tools") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		seen++
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		room, file := path.Dir(rel), path.Base(rel)
		test := strings.HasSuffix(file, "_test.go")
		parsed, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			wrong := ""
			if ours, ok := strings.CutPrefix(target, module); ok {
				if ours != room && !(test && strings.HasPrefix(ours, "internal/")) {
					wrong = check(room, file, ours)
				}
			} else if !test {
				wrong = checkDoor(room, file, target)
			}
			if wrong != "" {
				t.Error(wrong)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 5 {
		t.Fatalf("only %d Go files seen: the test looks in the wrong place", seen)
	}
}

// The test itself must be able to fail.
func TestCheckNamesTheBrokenRule(t *testing.T) {
	for _, c := range []struct{ room, file, target, want string }{
		{"acl", "acl.go", "protocol/session", "acl/acl.go imports protocol/session: acl may import only [protocol/identity] and internal/*"},
		{"acl", "acl.go", "protocol/identity", ""},
		{"daemon", "tasks.go", "client", "daemon/tasks.go imports client"},
		{"cmd/keyhole", "pair.go", "daemon", "only demo*.go may"},
		{"cmd/keyhole", "demo.go", "daemon", ""},
		{"misc", "x.go", "acl", "misc is not on the floor plan"},
	} {
		got := check(c.room, c.file, c.target)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("check(%s, %s, %s) = %q, want %q", c.room, c.file, c.target, got, c.want)
		}
	}
	if got := checkDoor("acl", "x.go", "github.com/quic-go/quic-go/http3"); !strings.Contains(got, "the one door to it is protocol/session") {
		t.Errorf("door: %q", got)
	}
	if got := checkDoor("acl", "x.go", "example.net/new"); !strings.Contains(got, "without a door") {
		t.Errorf("door: %q", got)
	}
}
