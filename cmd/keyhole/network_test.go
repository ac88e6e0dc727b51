package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
)

// neighbour is a real keyholed in a network namespace of its own, one wire away.
type neighbour struct {
	t   *testing.T
	ns  *testnet.Namespace
	dir string
}

// wireDevice starts a device at the other end of a new wire.
func wireDevice(t *testing.T, wire, here, there string) *neighbour {
	t.Helper()
	n := &neighbour{t: t, ns: testnet.New(t), dir: t.TempDir()}
	n.ns.Wire(t, wire, "eth0")
	testnet.IP(t, "addr add "+here+" dev "+wire)
	n.ns.IP(t, "-6 addr flush dev eth0") // one address, for the test to take away
	n.ns.IP(t, "addr add "+there+" dev eth0")
	config := strings.ReplaceAll(fmt.Sprintf(deviceConfig, "127.0.0.1:80", "127.0.0.1:81", "82"), "127.0.0.1:0", ":7443")
	config = strings.Replace(config, "Front door", "Door at "+wire, 1)
	if err := os.WriteFile(filepath.Join(n.dir, "device.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	daemon := n.command("run", "--config", filepath.Join(n.dir, "device.toml"))
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(os.Interrupt)
		_ = daemon.Wait()
		if t.Failed() {
			t.Logf("%s says:\n%s", wire, log.String())
		}
	})
	testnet.Eventually(t, "the device runs", func() error { return n.command("status").Run() })
	return n
}

func (n *neighbour) command(args ...string) *exec.Cmd {
	dir, err := keyholed()
	if err != nil {
		n.t.Fatal(err)
	}
	c := n.ns.Command(filepath.Join(dir, "keyholed"), append(args, "--socket", filepath.Join(n.dir, "s"))...)
	c.Dir = n.dir
	return c
}

func (n *neighbour) do(args ...string) {
	n.t.Helper()
	if out, err := n.command(args...).CombinedOutput(); err != nil {
		n.t.Fatalf("keyholed %v: %v: %s", args, err, out)
	}
}

func (n *neighbour) status() (s control.Status, err error) {
	out, err := n.command("status", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	return s, err
}

// TestNetwork finds devices by mDNS, pairs without naming one, and finds one again
// when its address has changed.
func TestNetwork(t *testing.T) {
	t.Parallel()
	if !testnet.Isolate(t) {
		return
	}
	home := t.TempDir()
	keyhole := func(want int, args ...string) string {
		t.Helper()
		out, err := exec.Command("keyhole", append([]string{"--home", home}, args...)...).CombinedOutput()
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != want {
			t.Fatalf("keyhole %v: exit code %d, want %d\n%s", args, code, want, out)
		}
		return string(out)
	}
	if out := keyhole(4, "discover", "--wait", "500ms"); !strings.Contains(out, "the local network cannot be reached") {
		t.Error(out)
	}
	keyhole(4, "pair", "--wait", "500ms")
	a := wireDevice(t, "wire0", "10.77.0.1/24", "10.77.0.2/24")
	b := wireDevice(t, "wire1", "10.78.0.1/24", "10.78.0.2/24")
	testnet.Eventually(t, "both are heard", func() error {
		if out := keyhole(0, "discover", "--wait", "1s"); strings.Count(out, "Door at wire") != 2 {
			return errors.New(out)
		}
		return nil
	})
	if out := keyhole(3, "pair", "--wait", "1s"); !strings.Contains(out, "none open for pairing") {
		t.Error(out)
	}
	a.do("press", "pair")
	b.do("press", "pair")
	if out := keyhole(2, "pair", "--wait", "1500ms"); strings.Count(out, "  keyhole pair ") != 2 {
		t.Errorf("two are open: %s", out)
	}
	b.do("press", "pair") // closes it

	pairing := exec.Command("keyhole", "--home", home, "pair", "--as", "Alice", "--wait", "1500ms")
	var said bytes.Buffer
	pairing.Stderr, pairing.Stdout = &said, &said
	if err := pairing.Start(); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, "it asks", func() error {
		s, err := a.status()
		if err == nil && s.Pairing.Asking == nil {
			err = errors.New("nobody does")
		}
		return err
	})
	a.do("press", "pair")
	if err := pairing.Wait(); err != nil || !strings.Contains(said.String(), "Paired with Door at wire0. You are Alice, owner.") {
		t.Fatalf("%v\n%s", err, said.String())
	}
	if out := keyhole(0, "discover", "--json", "--wait", "1s"); !strings.Contains(out, `"paired": true`) {
		t.Error(out)
	}

	// The remembered address is gone; its id is heard at another.
	a.ns.IP(t, "addr del 10.77.0.2/24 dev eth0")
	a.ns.IP(t, "addr add 10.77.0.9/24 dev eth0")
	testnet.Eventually(t, "found at the new address", func() error {
		if out := keyhole(0, "devices"); !strings.Contains(out, "tcp 10.77.0.9:7443") {
			return errors.New(out)
		}
		return nil
	})
	keyhole(0, "services")
}
