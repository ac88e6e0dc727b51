package testnet

import (
	"bufio"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// An Avahi is a real avahi-daemon in a namespace, with its own /run and D-Bus, so
// that several can run on one machine.
type Avahi struct{ holder int }

const avahiSetup = `mount -t tmpfs tmpfs /run && mkdir -p /run/dbus && hostname foreign &&
printf '[server]\nhost-name=foreign\nuse-ipv6=no\nratelimit-interval-usec=1000000\nratelimit-burst=1000\n[publish]\npublish-workstation=no\n' >/run/avahi.conf &&
echo ready && exec sleep infinity`

// StartAvahi runs one in n, which must have an IPv4 address in 10/8 by now, and
// waits until it answers.
func StartAvahi(t *testing.T, n *Namespace) *Avahi {
	t.Helper()
	holder := n.Command("unshare", "--mount", "--uts", "sh", "-c", avahiSetup)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	Start(t, holder)
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("namespace for avahi: %q", line)
	}
	a := &Avahi{holder: holder.Process.Pid}
	Start(t, a.Command("dbus-daemon", "--system", "--nofork", "--nopidfile"))
	Eventually(t, "D-Bus", func() error { return a.Command("test", "-S", "/run/dbus/system_bus_socket").Run() })
	Start(t, a.Command("avahi-daemon", "--no-rlimits", "--no-chroot", "--file", "/run/avahi.conf"))
	Eventually(t, "avahi-daemon", func() error {
		out, err := a.Command("avahi-resolve", "-4", "-n", "foreign.local").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "10.") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	return a
}

// Start runs cmd until the test ends.
func Start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// Command returns a command that runs beside the daemon.
func (a *Avahi) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(a.holder), "-n", "-m", "-u", name}, args...)...)
}

// Browse returns the lines of avahi-browse -rp for a service type.
func (a *Avahi) Browse(service string) []string {
	out, _ := a.Command("timeout", "5", "avahi-browse", "-rpt", service).Output()
	return strings.Split(string(out), "\n")
}

// Sees waits until a service is resolved to a line with all wanted texts.
func (a *Avahi) Sees(t *testing.T, service string, want ...string) {
	t.Helper()
	Eventually(t, "avahi-browse "+service, func() error {
		lines := a.Browse(service)
		for _, line := range lines {
			if containsAll(line, want) {
				return nil
			}
		}
		return fmt.Errorf("want %q in one of %q", want, lines)
	})
}

// SawLast waits until no line about a service has the text gone.
func (a *Avahi) SawLast(t *testing.T, service, gone string) {
	t.Helper()
	Eventually(t, "avahi-browse forgets "+gone, func() error {
		if lines := strings.Join(a.Browse(service), "\n"); strings.Contains(lines, gone) {
			return fmt.Errorf("still there: %s", lines)
		}
		return nil
	})
}

func containsAll(s string, want []string) bool {
	for _, w := range want {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}
