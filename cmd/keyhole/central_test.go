package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyholed/keyhole/internal/testcmd"
	"github.com/keyholed/keyhole/internal/testnet"
)

// TestCentralScripts has a vendor: a key of openssl's, the webhook of docs/central.md,
// and a basestation that asks it.
func TestCentralScripts(t *testing.T) {
	t.Parallel()
	testnet.Program(t, "openssl")
	if signingPython() == "" {
		testnet.Lacking(t, "python3 with PyJWT and cryptography")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/central",
		RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: setup,
		Cmds: testcmd.Commands(map[string]testcmd.Command{
			"device": startDevice, "stop": stopDevice, "pairas": pairAs, "vendor": startVendor, "append": appendFile, "clockset": waitClock,
			"directory": writeDirectory, "until": untilExits, "get": webGet,
		}),
	})
}

// signingPython is a python3 with the libraries of the webhook: the distribution's may
// stand behind another one.
func signingPython() string {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import jwt, cryptography").Run() == nil {
			return python
		}
	}
	return ""
}

// startVendor is "vendor": webhook and basestation until the script's end, at $BASE with
// the root key $BASEKEY; the device's configuration names them.
func startVendor(ts *testscript.TestScript, _ bool, _ []string) {
	program, err := station()
	ts.Check(err)
	ts.Check(ts.Exec("openssl", "genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "vendor.key"))
	ts.Check(ts.Exec("openssl", "pkey", "-in", "vendor.key", "-pubout", "-out", "vendor.pem"))
	ts.Check(os.WriteFile(ts.MkAbs("webhook.py"), []byte(documented(ts, "operator.md", "receiver")+documented(ts, "central.md", "webhook")), 0o600))
	at, hook := "127.0.0.1:"+freePort(), freePort()
	config := fmt.Sprintf("[basestation]\nlisten = [%q]\ndata = \"base\"\n[api]\nlisten = \"127.0.0.1:0\"\n[authorize]\nurl = \"http://127.0.0.1:%s/\"\nsecret_file = %q\ndeny = \"deny.txt\"\n",
		at, hook, ts.MkAbs("authorize.secret"))
	ts.Check(os.WriteFile(ts.MkAbs("base.toml"), []byte(config), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("deny.txt"), []byte("# nobody\n"), 0o600))
	start := func(name string, args ...string) {
		c := exec.Command(name, args...)
		log := new(bytes.Buffer)
		c.Dir, c.Stdout, c.Stderr = ts.MkAbs("."), log, log
		ts.Check(c.Start())
		ts.Defer(func() {
			endDaemon(c)
			ts.Logf("%s:\n%s", filepath.Base(name), log)
		})
	}
	key, err := exec.Command(program, "key", "--data", ts.MkAbs("base")).Output()
	ts.Check(err)
	start(signingPython(), "webhook.py", hook)
	start(program, "serve", "--config", "base.toml")
	testnet.Eventually(ts, "the webhook", func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+hook)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	ts.Setenv("BASE", at)
	ts.Setenv("BASEKEY", strings.TrimSpace(string(key)))
	appendText(ts, "device.toml", fmt.Sprintf("[basestation]\naddress = %q\nkey = %q\n", at, strings.TrimSpace(string(key))))
}

// documented is a block of a page that is marked as tested.
func documented(ts *testscript.TestScript, page, mark string) string {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	ts.Check(err)
	_, rest, found := strings.Cut(string(text), "<!-- tested: "+mark+" -->\n```python\n")
	code, _, ended := strings.Cut(rest, "\n```")
	if !found || !ended {
		ts.Check(errors.New(page + " has no block " + mark))
	}
	return code + "\n"
}

// writeDirectory is "directory HOME NAME ROLE": the vendor's directory has the client of
// this home alone, for the device; "directory HOME refused" refuses it.
func writeDirectory(ts *testscript.TestScript, _ bool, args []string) {
	people, refused := map[string]any{}, []string{}
	switch {
	case len(args) == 2:
		refused = append(refused, keyOf(ts, args[0]))
	case len(args) == 3:
		people[keyOf(ts, args[0])] = map[string]any{"name": args[1], "roles": []string{args[2]}, "devices": []string{ts.Getenv("ID")}}
	}
	data, err := json.Marshal(map[string]any{"people": people, "refused": refused, "countries_refused": []string{}})
	ts.Check(err)
	aside := ts.MkAbs("directory.new")
	ts.Check(os.WriteFile(aside, data, 0o600))
	ts.Check(os.Rename(aside, ts.MkAbs("directory.json")))
}

// keyOf is the fingerprint of the key in a home.
func keyOf(ts *testscript.TestScript, home string) string {
	out, err := exec.Command("sh", "-c", "openssl pkey -in '"+ts.MkAbs(filepath.Join(home, "identity.pem"))+"' -pubout -outform DER | openssl dgst -sha256 -r | cut -c1-64").Output()
	ts.Check(err)
	return strings.TrimSpace(string(out))
}
