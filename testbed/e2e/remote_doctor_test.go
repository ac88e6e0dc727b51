//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
)

// deviceNow is a device of `keyhole devices --json`.
type deviceNow struct {
	Reachable    bool
	Path, Via    string
	OfflineSince string `json:"offline_since"`
}

func (p *person) devicesNow(t *testing.T) []deviceNow {
	t.Helper()
	var list struct{ Devices []deviceNow }
	p.ask(t, &list, "devices", "--json")
	return list.Devices
}

// What `keyhole devices` and `keyhole doctor` say at home, behind routers of several
// kinds, and of a board that is off.
func TestDoctorFromElsewhere(t *testing.T) {
	testnet.Root(t)
	t.Parallel() // it mostly waits
	internet := testnet.NewInternet(t)
	alice := newPerson(t, host{internet.Base}, "Alice")
	home := newRemoteHome(t, internet, testnet.PortRestricted, boardKey, newBase(t, host{internet.Base}), alice)
	laptop := home.owner
	if now := laptop.devicesNow(t); len(now) != 1 || now[0].Via != "direct" {
		t.Errorf("at home: %+v", now)
	}
	laptop.doctorSays(t, "at home", `ok +path: tcp to 192\.168\.1\.10:7443`, `ok +path: not needed here: the device is reached directly`)
	for _, c := range []struct {
		kind testnet.NAT
		want []string
	}{
		{testnet.PortRestricted, []string{`ok +punched TCP: \S+:7443, set up in`, `ok +punched UDP`, `ok +relay`, `ok +path: punched TCP, as the device is not reached`, `ok +web: http, connects in`}},
		{testnet.Symmetric, []string{`warn +punched TCP: .*each peer another port`, `warn +punched UDP: .*strict`, `ok +path: relay, .*nothing direct gets through`}},
		{testnet.UDPBlocked, []string{`ok +basestation: \S+, asked over tcp`, `warn +NAT: UDP is blocked here`, `warn +punched UDP: .*blocked on this side`}},
	} {
		internet.Home(t, c.kind).Move(t, laptop.Namespace, 10)
		if c.kind == testnet.Symmetric {
			c.want = append(c.want, readmeTree(t)...)
		}
		laptop.doctorSays(t, "behind "+string(c.kind), c.want...)
	}
	// Whoever is paired learns that the board is off, and since when.
	home.board.daemon.kill()
	testnet.Eventually(t, "it is known to be off", func() error {
		if now := laptop.devicesNow(t); len(now) != 1 || now[0].Reachable || now[0].OfflineSince == "" {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	if said := laptop.refused(t, exitNotReachable, "services"); !strings.Contains(said, "offline since") {
		t.Error(said)
	}
	laptop.doctorSays(t, "off", `FAIL +introduction: offline since`)
}

// readmeTree is what README.md shows of the doctor, line by line, with anything in the
// place of words that have digits: addresses, times and the device's id.
func readmeTree(t *testing.T) (lines []string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```\nok   Front door")
	tree, _, found := strings.Cut("ok   Front door"+rest, "\n```")
	if !found {
		t.Fatal("README.md shows no doctor's tree")
	}
	words := regexp.MustCompile(`\S*\d\S*`)
	for _, line := range strings.Split(tree, "\n") {
		parts := words.Split(line, -1)
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if strings.Contains(line, " TCP: ") && !strings.Contains(line, "punched") {
			parts[len(parts)-1] = "" // routers differ in how they refuse
		}
		lines = append(lines, "(?m)^"+strings.Join(parts, ".*")+"$")
	}
	return lines
}

// doctorSays wants lines in what the doctor says. Its exit code tells that services of the
// test's board do not run.
func (p *person) doctorSays(t *testing.T, where string, want ...string) {
	t.Helper()
	tree := finish(t, p.command("doctor"))
	for _, line := range want {
		if !regexp.MustCompile(line).MatchString(tree.out) {
			t.Errorf("%s: no %q in\n%s%s", where, line, tree.out, tree.err)
		}
	}
}
