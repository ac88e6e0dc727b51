package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyholed/keyhole/internal/settings/settingstest"
)

const testFile = "/etc/keyhole/basestation.toml"

func parse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(text), testFile, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var unexported = cmpopts.IgnoreUnexported(Config{})

func TestEmptyFileIsTheDefault(t *testing.T) {
	want := Default()
	want.File = testFile
	want.Enrol.Master = DefaultData + "/master.secret"
	want.Authorize.SecretFile = DefaultData + "/authorize.secret"
	if diff := cmp.Diff(want, parse(t, ""), unexported); diff != "" {
		t.Error(diff)
	}
}

func TestExampleNamesEverySettingWithItsDefault(t *testing.T) {
	full := settingstest.Full(t, Example(), reflect.TypeFor[Config]())
	want := parse(t, "[[webhook]]\nname = 'crm'\nurl = 'https://hooks.example.net/keyhole'\nevents = ['presence', 'alarm']")
	if diff := cmp.Diff(want, parse(t, full), cmpopts.EquateEmpty(), unexported); diff != "" {
		t.Error("a commented setting of the example is not the default:", diff)
	}
	want.Webhooks = nil // nobody is told anything by a copy of the example
	if diff := cmp.Diff(want, parse(t, string(Example())), cmpopts.EquateEmpty(), unexported); diff != "" {
		t.Error("a setting of the example that is not commented is not the default:", diff)
	}
}

func TestEveryValueArrives(t *testing.T) {
	got := parse(t, `
[basestation]
name = "n-1"
listen = ["192.0.2.7:7443", ":443"]
advertise = ["198.51.100.7:7443", "[2001:db8::7]:7443"]
data = "data"
drain = "0s"
[enrol]
mode = "secret"
master = "/m"
[store]
nats = "nats://192.0.2.8:4222,tls://nats.example.net"
credentials = "c"
roots = "r"
certificate = "nc"
key = "nk"
plain = true
replicas = 3
[api]
listen = ""
certificate = "a.pem"
key = "a.key"
names = ["base.example.net", "192.0.2.7"]
[authorize]
deny = "deny"
countries = "countries.csv"
url = "http://127.0.0.1:8080/ask"
secret_file = "s"
roots = "ar"
timeout = "300ms"
[relay]
enabled = false
tunnels = 5
per_device = 2
life = "1h"
daily_mb = 1000
vendor_tunnels = 3
vendor_daily_mb = 4000
[limits]
devices = 10
connections = 16
introductions = 1
[[webhook]]
name = "a"
url = "https://192.0.2.9/x?y=1"
events = ["device"]
secret_file = "w"
roots = "wr"
timeout = "1s"
workers = 1
give_up = "1h"
`)
	want := &Config{
		Basestation: Basestation{"n-1", []string{"192.0.2.7:7443", ":443"}, []string{"198.51.100.7:7443", "[2001:db8::7]:7443"}, "/etc/keyhole/data", 0},
		Enrol:       Enrol{"secret", "/m"},
		Store:       Store{"nats://192.0.2.8:4222,tls://nats.example.net", "/etc/keyhole/c", "/etc/keyhole/r", "/etc/keyhole/nc", "/etc/keyhole/nk", true, 3},
		API:         API{"", "/etc/keyhole/a.pem", "/etc/keyhole/a.key", []string{"base.example.net", "192.0.2.7"}},
		Authorize:   Authorize{"http://127.0.0.1:8080/ask", "/etc/keyhole/s", "/etc/keyhole/deny", "/etc/keyhole/countries.csv", "/etc/keyhole/ar", 300 * time.Millisecond},
		Webhooks: []Webhook{{"a", "https://192.0.2.9/x?y=1", []string{"device"}, "/etc/keyhole/w", "/etc/keyhole/wr",
			time.Second, 1, time.Hour}},
		Relay:  Relay{false, 5, 2, time.Hour, 1000, 3, 4000},
		Limits: Limits{10, 16, 1},
		File:   testFile,
	}
	if diff := cmp.Diff(want, got, unexported); diff != "" {
		t.Error(diff)
	}
}

// Each case is a file, and the line and the words that its error has.
var mistakes = []settingstest.Mistake{
	{"[basestation]\nlissen = 1", 2, `basestation.lissen: unknown key (did you mean "listen"?)`},
	{"[frob]", 1, "frob: unknown key"},
	{"[basestation]\nname = 'a b'", 2, "no name of a node"},
	{"[basestation]\nlisten = []", 2, "at least one"},
	{"[basestation]\nlisten = [':1', ':1']", 2, "listed twice"},
	{"[basestation]\nlisten = [':1', ':2', ':3', ':4', ':5']", 2, "at most 4"},
	{"[basestation]\nlisten = [\n'x:1']", 3, "want an IP address"},
	{"[basestation]\nlisten = [':99999']", 2, "0 to 65535"},
	{"[basestation]\nadvertise = [':7443']", 2, "others can reach"},
	{"[basestation]\nadvertise = ['192.0.2.1:0']", 2, "others can reach"},
	{"[basestation]\nadvertise = ['0.0.0.0:1']", 2, "others can reach"},
	{"[basestation]\ndata = ''", 2, "the path of a directory"},
	{"[basestation]\ndrain = '1h'", 2, "want 0s to 10m0s"},
	{"[enrol]\nmode = 'opn'", 2, `did you mean "open"?`},
	{"[store]\nnats = 'http://x'", 2, "no URL of a NATS server"},
	{"[store]\ncredentials = 'x'", 1, "needs nats as well"},
	{"[store]\nnats = 'nats://x:1'\nkey = 'x'", 1, "want both or none"},
	{"[store]\nreplicas = 2", 2, "want 1, 3 or 5"},
	{"[store]\nreplicas = 3", 2, "an external cluster"},
	{"[api]\nlisten = '7480'", 2, "no address to listen on"},
	{"[api]\ncertificate = 'x'", 1, "want both or none"},
	{"[api]\nnames = ['a b']", 2, "neither a host name"},
	{"[authorize]\nurl = 'http://hooks.example.net'", 2, "without encryption"},
	{"[authorize]\ntimeout = '1s'", 2, "want 50ms to 700ms"},
	{"webhook = 3", 1, "double brackets"},
	{"[[webhook]]\nurl = 'https://x'", 1, "a webhook needs a name"},
	{"[[webhook]]\nname = 'A'\nurl = 'https://x'", 2, "a-z or 0-9"},
	{"[[webhook]]\nname = 'a'", 1, "has no value"},
	{"[[webhook]]\nname = 'a'\nurl = 'https://u:p@x'", 3, "a password in it"},
	{hook + hook, 5, "used twice"},
	{hook + "events = ['Presence']", 4, "no kind of event"},
	{hook + "workers = 0", 4, "want 1 to 32"},
	{hook + "give_up = '1s'", 4, "want 1m0s to 168h0m0s"},
	{"[relay]\nenabled = 1", 2, "true or false"},
	{"[relay]\ntunnels = 0", 2, "out of range"},
	{"[relay]\nlife = '1s'", 2, "out of range"},
	{"[limits]\ndevices = 0", 2, "limits.devices: 0 is out of range: want 1 to 16000000"},
	{"[limits]\nintroductions = '5'", 2, "want a whole number"},
}

const hook = "[[webhook]]\nname = 'a'\nurl = 'https://hooks.example.net'\n"

func TestMistakes(t *testing.T) {
	settingstest.Mistakes(t, testFile, func(text string) error {
		_, err := Parse([]byte(text), testFile, Overrides{})
		return err
	}, mistakes)
}

func TestAllMistakesTogetherInOrder(t *testing.T) {
	_, err := Parse([]byte("[limits]\ndevices = 0\nx = 1\n[enrol]\nmode = 5\n[basestation]\nlisten = []\n"), testFile, Overrides{})
	var all Errors
	if !errors.As(err, &all) || len(all) != 4 {
		t.Fatalf("got %v, want 4 errors", err)
	}
	for i, want := range []int{2, 3, 5, 7} {
		if all[i].Line != want {
			t.Errorf("error %d is of line %d, want %d: %v", i, all[i].Line, want, all[i])
		}
	}
}

func TestOverrides(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	none := ""
	c, err := Parse([]byte("[basestation]\ndata = '/'"), testFile, Overrides{
		Data: "d", Listen: []string{"127.0.0.1:0"}, Advertise: []string{"127.0.0.1:7443"}, API: &none, NATS: "nats://127.0.0.1:4222", Enrol: "listed",
	})
	if err != nil {
		t.Fatal(err) // what is overridden need not be right
	}
	if c.Basestation.Data != filepath.Join(cwd, "d") || c.Basestation.Listen[0] != "127.0.0.1:0" || c.Basestation.Advertise[0] != "127.0.0.1:7443" ||
		c.API.Listen != "" || c.Store.NATS != "nats://127.0.0.1:4222" || c.Enrol.Mode != "listed" || c.Enrol.Master != filepath.Join(cwd, "d", "master.secret") {
		t.Errorf("got %+v", c)
	}
	odd := "x"
	for flag, o := range map[string]Overrides{
		"--listen": {Listen: []string{"x"}}, "--advertise": {Advertise: []string{":1"}}, "--api": {API: &odd}, "--nats": {NATS: "x"}, "--enrol": {Enrol: "x"},
	} {
		if _, err := Parse(nil, testFile, o); err == nil || !strings.HasPrefix(err.Error(), flag+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want it to name %s alone", err, flag)
		}
	}
}

func TestNoFileIsTheDefault(t *testing.T) {
	want := "" // unless this machine has a configuration
	if _, err := os.Stat(DefaultPath); err == nil {
		want = DefaultPath
	}
	if c, err := Load("", Overrides{}); err != nil || c.File != want {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "no"), Overrides{}); err == nil || !strings.Contains(err.Error(), "leave --config out") {
		t.Errorf("a named file that is missing: %v", err)
	}
}

// Every field says its default.
func TestEverySettingIsDocumented(t *testing.T) {
	source, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	fields := regexp.MustCompile("(?s)((?:\t//[^\n]*\n)+)(?:\t[A-Z][A-Za-z]* +[^\n]*`toml:\"([a-z_]+)\"`\n)+").FindAllStringSubmatch(string(source), -1)
	if len(fields) < 25 {
		t.Fatalf("only %d documented fields found", len(fields))
	}
	for _, f := range fields {
		if !strings.Contains(f[1], "efault") && !strings.Contains(f[1], "Required.") {
			t.Errorf("%s is documented without its default:\n%s", f[2], f[1])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(string(Example()))
	for _, c := range mistakes {
		f.Add(c.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text), testFile, Overrides{})
		if err == nil {
			if len(c.Basestation.Listen) == 0 || c.Limits.Devices < 1 || !filepath.IsAbs(c.Basestation.Data) {
				t.Errorf("accepted %+v", c)
			}
			return
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("%T is not Errors", err)
		}
	})
}
