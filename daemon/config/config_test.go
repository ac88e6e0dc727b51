package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyholed/keyhole/internal/settings"
	"github.com/keyholed/keyhole/internal/settings/settingstest"
)

const testFile = "/etc/keyhole/keyholed.toml"

func parse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(text), testFile, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	got := parse(t, "")
	want := Default()
	want.File = testFile
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{}, Service{})); diff != "" {
		t.Error(diff)
	}
}

func TestExampleNamesEverySettingWithItsDefault(t *testing.T) {
	plain := parse(t, string(Example()))
	full := settingstest.Full(t, Example(), reflect.TypeFor[Config]())
	if diff := cmp.Diff(plain, parse(t, full), cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Config{}, Service{}), cmpopts.IgnoreFields(Config{}, "Authorities", "Roles")); diff != "" {
		t.Error("a commented setting of the example is not the default:", diff)
	}
}

func TestEveryValueArrives(t *testing.T) {
	got := parse(t, `
device.name = "Tür"
device.product = "acme-cam-2"
device.listen = ["127.0.0.1:0", "[::1]:7443"]
device.state = "state"
device.identity = "/id"
service = [{name = "a", type = "tcp", address = "unix:/run/a.sock"}]
[pairing]
modes = []
role = "guest"
interfaces = ["br0"]
[support]
enabled = false
role = "viewer"
key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
digits = 4
[board]
profile = "simulated"
web = "[::1]:0"
[limits]
unauthenticated = 8
unpaired = 2
sessions = 1000
tunnels = 64
tunnels_per_peer = 5
tunnel_idle = "1h30m"
`)
	want := &Config{
		Device: Device{Name: "Tür", Product: "acme-cam-2", Listen: []string{"127.0.0.1:0", "[::1]:7443"},
			State: "/etc/keyhole/state", Identity: "/id"},
		Services: []Service{{Name: "a", Type: "tcp", Address: "unix:/run/a.sock", Access: "role"}},
		Pairing:  Pairing{Modes: []string{}, Role: "guest", Interfaces: []string{"br0"}},
		Central:  defaultCentral(),
		Support:  Support{false, "viewer", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 4},
		Board:    Board{Profile: "simulated", Web: "[::1]:0"},
		Limits:   Limits{8, 2, 1000, 64, 5, 90 * time.Minute},
		File:     testFile, Socket: DefaultSocket,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{}, Service{})); diff != "" {
		t.Error(diff)
	}
}

// Each case is a file, and the line, the key and the words that its error has.
var mistakes = []settingstest.Mistake{
	{"[support]\nenabled = 1", 2, "support.enabled"},
	{"[support]\ndigits = 4", 2, "4 digits need a key"},
	{"[support]\ndigits = 5", 2, "want 6, or 4 with a key"},
	{"[support]\nkey = 'abc'", 2, "not a fingerprint"},
	{"[support]\nrole = 'owner'", 2, "neither owner nor admin"},
	{"[support]\nrole = 'suport'", 2, "is unknown: want \"viewer\" or \"guest\" or \"support\""},
	{"[device]\nnmae = 1", 2, `device.nmae: unknown key (did you mean "name"?)`},
	{"[device]\nfrobnicate = 1", 2, "known here: identity, listen, name, product, state"},
	{"[devices]\nname = 'x'", 1, `devices: unknown key (did you mean "device"?)`},
	{"x = 1", 1, "x: unknown key"},
	{"\n[x.y]", 2, "x: unknown key"},
	{"[device]\nname = 'a'\nname = 'b'", 3, "already been defined"},
	{"\n\na = \"\\ \"", 3, "invalid escape"},
	{"\na." + strings.Repeat("a.", 20000) + "a = 1", 2, "nested more than 16 deep"},
	{"\na = " + strings.Repeat("{\na = ", 20000), 18, "nested more than 16 deep"},
	{"\na = " + strings.Repeat("[", 20000), 2, "nested more than 16 deep"},
	{"[device]\n[device]", 2, "already been defined"},
	{"[device\n", 1, "to end table name"},
	{"a = \"\x00\"", 1, ""},
	{"[device]\nname = 7", 2, "device.name: want a string in quotes, got the number 7"},
	{"[device]\nlisten = \":7443\"", 2, "want a list of strings"},
	{"[device]\nlisten = [1]", 2, "want a list of strings"},
	{"[device]\nlisten = []", 2, "at least one address"},
	{"[device]\nlisten = [\n':1',\n'x:2']", 4, `host "x" of "x:2": want an IP address`},
	{"[device]\nlisten = [':70000']", 2, "0 to 65535"},
	{"[device]\nlisten = [':07']", 2, "0 to 65535"},
	{"[device]\nlisten = ['7443']", 2, "no address to listen on"},
	{"[device]\nlisten = [':1', ':1']", 2, "listed twice"},
	{"[device]\nname = ''", 2, "empty"},
	{"[device]\nname = \"a\\u202Eb\"", 2, "cannot be printed"},
	{"[device]\nname = '" + strings.Repeat("é", 65) + "'", 2, "65 characters"},
	{"[device]\nproduct = 'a b'", 2, "no product name"},
	{"[device]\nstate = ''", 2, "empty"},
	{"[device]\nstate = '/a'\nidentity = '/a'", 3, "the same directory as device.state"},
	{"[device]\nstate = '/a'\nidentity = '/a/b'", 3, "inside device.state"},
	{"[device]\nstate = '/a/../b/c'\nidentity = '/b'", 2, "inside device.identity"},
	{"service = 3", 1, "double brackets"},
	{"[service]\nname = 'a'", 1, "double brackets"},
	{"[[service]]", 1, "service: name: has no value"},
	{"[[service]]\nname = 'A b'", 2, "up to 31 of a-z 0-9 -"},
	{"[[service]]\nname = '" + strings.Repeat("a", 33) + "'", 2, "up to 31"},
	{"[[service]]\nname = 'a'\naddres = ''", 3, `did you mean "address"?`},
	{ok + "[[service]]\nname = 'a'\ntype = 'tcp'\naddress = 'x:1'", 6, "used twice, first in line 2"},
	{service("127.0.0.1:7443"), 4, "leads back to keyholed itself"},
	{service("localhost:7443"), 4, "leads back to keyholed itself"},
	{service("[::ffff:127.0.0.1]:7443"), 4, "leads back to keyholed itself"},
	{service("0.0.0.0:7443"), 4, "leads back to keyholed itself"},
	{service("unix:/run/keyhole/../keyhole/keyholed.sock"), 4, "control socket"},
	{service("a b:1"), 4, "contains a space"},
	{service(strings.Repeat("x", 301)), 4, "longer than 300"},
	{ok + "access = 'rolle'", 5, `did you mean "role"?`},
	{"[pairing]\nmodes = ['code']", 2, "nobody could pair"},
	{"[pairing]\nmodes = ['buton']", 2, `did you mean "button"?`},
	{"[pairing]\nmodes = ['button', 'button']", 2, "listed twice"},
	{"[pairing]\nrole = 'owner'", 2, "the first user alone"},
	{"[pairing]\nrole = 'veiwer'", 2, `did you mean "viewer"?`},
	{"[pairing]\ninterfaces = ['a/b']", 2, "no name of a network interface"},
	{"[board]\nprofile = '/etc/keyhole/board.toml'", 2, "board files are not in this version"},
	{"[board]\nprofile = 'simulatd'", 2, `did you mean "simulated"?`},
	{"[board]\nweb = '127.0.0.1:1'", 2, "only the simulated board"},
	{"[board]\nprofile = 'simulated'\nweb = '0.0.0.0:1'", 3, "no loopback address"},
	{"[limits]\nsessions = 0", 2, "limits.sessions: 0 is out of range: want 1 to 16384"},
	{"[limits]\nsessions = 1.5", 2, "want a whole number, got the number 1.5"},
	{"[limits]\ntunnels = 4\ntunnels_per_peer = 5", 3, "more than limits.tunnels, which is 4"},
	{"[limits]\ntunnel_idle = 60", 2, "a duration in quotes"},
	{"[limits]\ntunnel_idle = '1 hour'", 2, "is no duration"},
	{"[limits]\ntunnel_idle = '1s'", 2, "10s to 168h"},
}

const ok = "[[service]]\nname = 'a'\ntype = 'tcp'\naddress = '192.0.2.1:7443'\n"

func service(address string) string {
	return "[[service]]\nname = 'a'\ntype = 'tcp'\naddress = '" + address + "'\n"
}

func TestMistakes(t *testing.T) {
	settingstest.Mistakes(t, testFile, func(text string) error {
		_, err := Parse([]byte(text), testFile, Overrides{})
		return err
	}, mistakes)
}

func TestAllMistakesTogetherInOrder(t *testing.T) {
	_, err := Parse([]byte("[pairing]\nrole = 'owner'\n[limits]\ntunnels = 0\nx = 1\n[device]\nname = ''\n"), testFile, Overrides{})
	var all Errors
	if !errors.As(err, &all) || len(all) != 4 {
		t.Fatalf("got %v, want 4 errors", err)
	}
	for i, want := range []int{2, 4, 5, 7} {
		if all[i].Line != want {
			t.Errorf("error %d is of line %d, want %d: %v", i, all[i].Line, want, all[i])
		}
	}
}

// What has the wrong type is not called empty as well.
func TestOneMistakeOneMessage(t *testing.T) {
	_, err := Parse([]byte("[[service]]\nname = 'a'\ntype = 'tcp'\naddress = 554"), testFile, Overrides{})
	if want := testFile + ":4: service.address: want a string in quotes, got the number 554"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestChecksOfServices(t *testing.T) {
	check := func(s Service) error {
		return errors.Join(s.Error("type", errors.New("unknown type")), s.Error("address", fs.ErrInvalid), errors.New("plain"))
	}
	_, err := Parse([]byte(ok), testFile, Overrides{}, check)
	var all Errors
	if !errors.As(err, &all) || len(all) != 3 || !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{
		testFile + `:1: service "a": plain`, testFile + `:3: service "a": type: unknown type`, testFile + `:4: service "a": address: invalid argument`,
	} {
		if all[i].Error() != want {
			t.Errorf("got %q, want %q", all[i], want)
		}
	}
}

func TestOverrides(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse([]byte("[device]\nstate = '/same'\nidentity = '/same'"), testFile,
		Overrides{State: "s", Identity: "/i", Listen: []string{"127.0.0.1:0"}, Socket: "k.sock"})
	if err != nil {
		t.Fatal(err) // what is overridden need not be right
	}
	if c.Device.State != filepath.Join(cwd, "s") || c.Device.Identity != "/i" || c.Socket != filepath.Join(cwd, "k.sock") ||
		len(c.Device.Listen) != 1 || c.Device.Listen[0] != "127.0.0.1:0" {
		t.Errorf("got %+v, socket %s", c.Device, c.Socket)
	}
	if _, err := Parse(nil, testFile, Overrides{Listen: []string{"x"}}); err == nil || !strings.HasPrefix(err.Error(), "--listen: ") {
		t.Errorf("got %v, want it to name the flag", err)
	}
}

func TestPath(t *testing.T) {
	t.Setenv(EnvPath, "")
	if got := Path(""); got != DefaultPath {
		t.Errorf("got %s", got)
	}
	t.Setenv(EnvPath, "/env")
	if got := Path("") + Path("/flag"); got != "/env/flag" {
		t.Errorf("got %s", got)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "no.toml"), Overrides{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "keyholed init --config "+dir) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Load(dir, Overrides{}); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, []byte(strings.Repeat("#", settings.MaxFileBytes+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large, Overrides{}); err == nil || !strings.Contains(err.Error(), "larger than 256 KiB") {
		t.Errorf("large: %v", err)
	}
	if _, err := Load("/dev/zero", Overrides{}); err == nil || !strings.Contains(err.Error(), "larger than 256 KiB") {
		t.Errorf("endless: %v", err)
	}
	var text strings.Builder
	for i := range maxServices + 1 {
		fmt.Fprintf(&text, "[[service]]\nname = 's%d'\n", i)
	}
	if _, err := Parse([]byte(text.String()), testFile, Overrides{}); err == nil || !strings.Contains(err.Error(), "at most 64") {
		t.Errorf("many services: %v", err)
	}
}

func TestCompare(t *testing.T) {
	running := parse(t, ok)
	if c := Compare(running, parse(t, "\n\n"+ok)); !c.None() {
		t.Errorf("moved lines are a change: %+v", c)
	}
	next := parse(t, service("192.0.2.2:1")+"[pairing]\nrole = 'guest'\nmodes = []\n[device]\nname = 'n'\nlisten = [':1']\n[limits]\ntunnel_idle = '1h'")
	want := Changes{
		Live:    []string{"device.name", "service", "pairing.role"},
		Restart: []string{"device.listen", "pairing.modes", "limits.tunnel_idle"},
	}
	if diff := cmp.Diff(want, Compare(running, next)); diff != "" {
		t.Error(diff)
	}
	for _, setting := range []string{"media = true", "credentials = 'c'", "access = 'application'"} {
		const web = "[[service]]\nname = 'a'\ntype = 'http'\naddress = '192.0.2.1:80'\n"
		if c := Compare(parse(t, web), parse(t, web+setting)); !slices.Equal(c.Live, []string{"service"}) {
			t.Errorf("%s is no change: %+v", setting, c)
		}
	}
}

// The documentation of a field and its tag must say the same about a reload.
func TestDocumentationAndTagsAgree(t *testing.T) {
	source, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	fields := regexp.MustCompile("(?s)(Reload|Restart)\\.\n\t[A-Z][A-Za-z]* +[^\n]*`(toml:[^`]*)`").FindAllStringSubmatch(string(source), -1)
	if len(fields) < 15 {
		t.Fatalf("only %d documented fields found", len(fields))
	}
	for _, f := range fields {
		if strings.Contains(f[2], `reload:"live"`) != (f[1] == "Reload") {
			t.Errorf("%s is documented as %s", f[2], f[1])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(string(Example()))
	f.Add("a.b.\"c\\u0041\" = [[{x = '''\n'''}, 3], [\n# c\n]]\r\n[[s]]\n[s.t]\nu = 1979-05-27 07:32:00\n")
	for _, c := range mistakes {
		f.Add(c.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text), testFile, Overrides{})
		if err == nil {
			if c.Device.State == c.Device.Identity || len(c.Device.Listen) == 0 || c.Limits.Sessions < 1 {
				t.Errorf("accepted %+v", c)
			}
			return
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("%T is not Errors", err)
		}
		lines := strings.Count(text, "\n") + 2 // an end of file is told as the line behind it
		for _, e := range all {
			if e.Line < 0 || e.Line > lines || e.Line == 0 && len(text) <= settings.MaxFileBytes {
				t.Errorf("%v: the file has %d lines", e, lines)
			}
		}
	})
}
