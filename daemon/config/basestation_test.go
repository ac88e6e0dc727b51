package config

import (
	"slices"
	"strings"
	"testing"
)

const (
	oneKey   = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	otherKey = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"
)

func TestBasestation(t *testing.T) {
	if b := parse(t, "[basestation]\n").Basestation; b.Wanted() {
		t.Errorf("an empty section asks for %+v", b)
	}
	c := parse(t, "[basestation]\naddress = 'base.example.net:7443'\nkey = '"+oneKey+"'")
	if b := c.Basestation; !b.Wanted() || !slices.Equal(b.Addresses, []string{"base.example.net:7443"}) || !slices.Equal(b.Keys, []string{oneKey}) {
		t.Errorf("one string each: %+v", b)
	}
	c = parse(t, "[basestation]\naddress = ['192.0.2.7:443', '[2001:db8::7]:7443', 'base:1']\nkey = ['"+oneKey+"', '"+otherKey+"']\nserial = 'A-7'\nsecret_file = 'factory.secret'")
	if b := c.Basestation; len(b.Addresses) != 3 || len(b.Keys) != 2 || b.Serial != "A-7" || b.SecretFile != "/etc/keyhole/factory.secret" {
		t.Errorf("lists: %+v", b)
	}
	changes := Compare(parse(t, ""), c)
	if got := strings.Join(changes.Restart, " "); got != "basestation.address basestation.key basestation.serial basestation.secret_file" || len(changes.Live) != 0 {
		t.Errorf("a reload would take over %v and leave %v", changes.Live, changes.Restart)
	}
}

func TestBasestationMistakes(t *testing.T) {
	good := "key = '" + oneKey + "'\n"
	for text, want := range map[string]string{
		"address = 'base.example.net:7443'":                                        "k.toml: basestation.key: has no value",
		good:                                                                       "k.toml: basestation.address: has no value",
		good + "address = 'a:1'\nserial = 'A-7'":                                   "basestation.secret_file: has no value",
		good + "address = 'base.example.net'":                                      "no address of a basestation",
		good + "address = 'base.example.net:0'":                                    "from 1 to 65535",
		good + "address = 'base.example.net:07443'":                                "from 1 to 65535",
		good + "address = 'base.example.net:https'":                                "from 1 to 65535",
		good + "address = ':7443'":                                                 "host \"\"",
		good + "address = 'base example:7443'":                                     "host \"base example\"",
		good + "address = 'base..example:7443'":                                    "host \"base..example\"",
		good + "address = '0.0.0.0:7443'":                                          "can be reached",
		good + "address = '[ff02::1]:7443'":                                        "can be reached",
		good + "address = 'https://base.example.net:7443'":                         "no address of a basestation",
		good + "address = ['a:1', 'a:1']":                                          "listed twice",
		good + "address = ['a:1','a:2','a:3','a:4','a:5','a:6','a:7','a:8','a:9']": "at most 8",
		good + "address = 7443":                                                    "want a list of strings",
		"address = 'a:1'\nkey = 'short'":                                           "no key of a basestation",
		"address = 'a:1'\nkey = '" + oneKey + "='":                                 "no key of a basestation",
		"address = 'a:1'\nkey = \"" + oneKey[:20] + "\\n" + oneKey[20:] + "\"":     "no key of a basestation",
		"address = 'a:1'\nkey = ['" + oneKey + "', '" + oneKey + "']":              "listed twice",
		"address = 'a:1'\nkey = ['" + oneKey + "', '" + otherKey + "', '" + strings.Repeat("A", 43) + "']": "at most 2",
		good + "address = 'a:1'\nsecret_file = 'x'":                                                        "basestation.serial: has no value",
		good + "address = 'a:1'\nserial = 'a b'\nsecret_file = 'x'":                                        "no serial number",
		good + "address = 'a:1'\nserial = 'x'\nsecret_file = '/'":                                          "secret_file",
		good + "address = 'a:1'\nserials = 'x'":                                                            "unknown key",
	} {
		_, err := Parse([]byte("[basestation]\n"+text), "k.toml", Overrides{})
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want, "k.toml: ")) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\ngot %v\nwant one mistake with %q", text, err, want)
		}
	}
}
