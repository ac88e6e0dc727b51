package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testca"
	"github.com/keyholed/keyhole/internal/testcmd"
	"github.com/keyholed/keyhole/internal/testnet"
)

// TestCertificateScripts has an authority of openssl's and a basestation: the
// device learns the time from it, whatever this machine's clock is like.
func TestCertificateScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/certificates",
		RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			if err := setup(env); err != nil {
				return err
			}
			ca := testca.New(t, testca.Options{Subject: "/O=Example/CN=Company"})
			env.Values["ca"] = ca
			env.Values["middle"] = ca.Intermediate(testca.Options{Subject: "/O=Example/CN=Staff"})
			return os.WriteFile(filepath.Join(env.WorkDir, "company.pem"), ca.Cert, 0o600)
		},
		Cmds: testcmd.Commands(map[string]testcmd.Command{
			"device": startDevice, "stop": stopDevice, "pairas": pairAs, "station": startStation, "append": appendFile, "clockset": waitClock,
			"sign": signRequest, "revokecert": revokeCertificate, "reload": reloadDevice, "until": untilExits,
		}),
	})
}

// station builds the basestation once for all scripts.
var station = sync.OnceValues(func() (string, error) {
	dir, err := keyholed()
	if err == nil {
		err = exec.Command("go", "build", "-o", dir+"/", "../keyhole-basestation").Run()
	}
	return filepath.Join(dir, "keyhole-basestation"), err
})

// startStation is "station": it runs until the script's end, and the device's
// configuration names it.
func startStation(ts *testscript.TestScript, _ bool, _ []string) {
	program, err := station()
	ts.Check(err)
	address, data := "127.0.0.1:"+freePort(), ts.MkAbs("station")
	running := exec.Command(program, "serve", "--data", data, "--listen", address, "--api", "127.0.0.1:0", "--enrol", "open")
	running.Dir = ts.MkAbs(".")
	ts.Check(running.Start())
	ts.Defer(func() { endDaemon(running) })
	key, err := exec.Command(program, "key", "--data", data).Output()
	ts.Check(err)
	appendText(ts, "device.toml", "[basestation]\naddress = \""+address+"\"\nkey = \""+strings.TrimSpace(string(key))+"\"\n")
}

func appendText(ts *testscript.TestScript, file, text string) {
	f, err := os.OpenFile(ts.MkAbs(file), os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = f.WriteString(text)
	ts.Check(err)
	ts.Check(f.Close())
}

// appendFile is "append FILE TO".
func appendFile(ts *testscript.TestScript, _ bool, args []string) {
	appendText(ts, args[1], ts.ReadFile(args[0]))
}

func deviceStatus(ts *testscript.TestScript) (s control.Status) {
	out, err := exec.Command(mustLook(ts, "keyholed"), "status", "--json", "--socket", ts.MkAbs("s")).Output()
	if err == nil {
		_ = json.Unmarshal(out, &s)
	}
	return s
}

// waitClock waits until the device knows the time.
func waitClock(ts *testscript.TestScript, _ bool, _ []string) {
	wait(ts, "the clock", func() bool { return deviceStatus(ts).Clock.State == "known" })
}

// signRequest is "sign REQUEST CERTIFICATE SAN": the staff's authority signs, and its
// own certificate stands behind.
func signRequest(ts *testscript.TestScript, _ bool, args []string) {
	middle := ts.Value("middle").(*testca.CA)
	cert := middle.Sign([]byte(ts.ReadFile(args[0])), testca.Options{Ext: testca.Named(args[2])})
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), testca.Chain(cert, middle.Cert), 0o600))
}

// revokeCertificate is "revokecert CERTIFICATE LIST".
func revokeCertificate(ts *testscript.TestScript, _ bool, args []string) {
	middle, until := ts.Value("middle").(*testca.CA), time.Now().AddDate(0, 0, 7)
	if args[0] != "none" {
		middle.Revoke([]byte(ts.ReadFile(args[0])))
	}
	lists := testca.Chain(middle.List(until), ts.Value("ca").(*testca.CA).List(until))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), lists, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("chain.pem"), testca.Chain(ts.Value("ca").(*testca.CA).Cert, middle.Cert), 0o600))
}

// reloadDevice has the daemon read its configuration again; until waits for it.
func reloadDevice(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Value("scene").(*scene).daemon.Process.Signal(syscall.SIGHUP))
}

// untilExits is "until CODE COMMAND...": the command is tried until it ends so.
func untilExits(ts *testscript.TestScript, _ bool, args []string) {
	testnet.Until(ts, strings.Join(args, " "), func() bool {
		err := ts.Exec(args[1], args[2:]...)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return strconv.Itoa(exit.ExitCode()) == args[0]
		}
		return err == nil && args[0] == "0"
	})
}
