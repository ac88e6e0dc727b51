package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyholed/keyhole/internal/testface"
	"github.com/keyholed/keyhole/internal/testnet"
)

// buildBase builds the basestation once for all scripts, beside the daemon.
var buildBase = sync.OnceValues(func() (string, error) {
	dir, err := keyholed()
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../keyhole-basestation").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "keyhole-basestation"), nil
})

// startBase is "base": a basestation until the script's end, at $BASE with the root key
// $BASEKEY.
func startBase(ts *testscript.TestScript, _ bool, _ []string) {
	program, err := buildBase()
	ts.Check(err)
	at, data := "127.0.0.1:"+freePort(), ts.MkAbs("base")
	key, err := exec.Command(program, "key", "--data", data).Output()
	ts.Check(err)
	log := new(bytes.Buffer)
	c := exec.Command(program, "serve", "--data", data, "--listen", at, "--api", "127.0.0.1:0")
	c.Stdout, c.Stderr = log, log
	ts.Check(c.Start())
	ts.Defer(func() { endDaemon(c) })
	ts.Setenv("BASE", at)
	ts.Setenv("BASEKEY", strings.TrimSpace(string(key)))
}

// readDisplay is "shows [code]": it waits until the display shows a call number and a code,
// or a code alone, and sets NUMBER and CODE.
func readDisplay(ts *testscript.TestScript, _ bool, args []string) {
	testnet.Eventually(ts, "a code on the display", func() error {
		s := deviceStatus(ts)
		if s.Board == nil {
			return errors.New("no status")
		}
		words, err := testface.Words(context.Background(), s.Board.Web)
		if err != nil {
			return err
		}
		number, code := testface.Digits(words, "Call no."), testface.Digits(words, "Support code")
		if len(code) < 4 || len(number) != 6 && len(args) == 0 {
			return fmt.Errorf("it shows %s", strings.Join(words, " | "))
		}
		ts.Setenv("NUMBER", number)
		ts.Setenv("CODE", code)
		return nil
	})
}

// waitSupport is "supporting STATE [CONTROL]": it waits until support is so.
func waitSupport(ts *testscript.TestScript, _ bool, args []string) {
	testnet.Eventually(ts, "support "+strings.Join(args, " "), func() error {
		s := deviceStatus(ts).Support
		if s.State != args[0] || len(args) > 1 && s.Control != args[1] {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}
