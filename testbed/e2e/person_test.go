//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
)

// Exit codes that scripts rely on.
const (
	exitRefused      = 3
	exitNotReachable = 4
)

// A person sits at a host, with a key and an address book.
type person struct {
	host
	name, home string
}

func newPerson(t *testing.T, h host, name string) *person {
	t.Helper()
	return &person{h, name, filepath.Join(t.TempDir(), "home")}
}

// at is the same person, key and book, at another place.
func (p *person) at(h host) *person { return &person{h, p.name, p.home} }

func (p *person) command(args ...string) *exec.Cmd {
	return p.Command(program("keyhole"), append([]string{"--home", p.home}, args...)...)
}

// keyhole runs a command that must succeed, and returns its stdout.
func (p *person) keyhole(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, p.command(args...))
}

// refused runs a command that must end with the given exit code, and returns what
// it said.
func (p *person) refused(t *testing.T, code int, args ...string) string {
	t.Helper()
	r := finish(t, p.command(args...))
	if r.code != code {
		t.Errorf("keyhole %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.out, r.err)
	}
	return r.err
}

// ask decodes the JSON that a command prints.
func (p *person) ask(t *testing.T, into any, args ...string) {
	t.Helper()
	out := p.keyhole(t, args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("keyhole %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

var sixDigits = regexp.MustCompile(`\b(\d{3}) ?(\d{3})\b`)

// askToPair begins to pair and returns the digits that keyhole shows.
func (p *person) askToPair(t *testing.T, b *board, target ...string) (pairing *process, digits string) {
	t.Helper()
	pairing = start(t, p.command(append([]string{"pair", "--as", p.name, "--name", p.name + "'s laptop"}, target...)...))
	testnet.Eventually(t, "the digits", func() error {
		found := sixDigits.FindStringSubmatch(pairing.err.String())
		if found == nil {
			if !pairing.running() {
				t.Fatalf("keyhole pair has ended: %s", pairing.err)
			}
			return errors.New("none yet")
		}
		digits = found[1] + found[2]
		return nil
	})
	return pairing, digits
}

// pair makes the person a user of the board, by its button.
func (p *person) pair(t *testing.T, b *board, target ...string) {
	t.Helper()
	b.open(t)
	pairing, digits := p.askToPair(t, b, target...)
	if shown := b.asking(t).Check; shown != digits {
		t.Fatalf("keyhole shows %s, the board %s", digits, shown)
	}
	b.press(t)
	if code := pairing.wait(t); code != 0 {
		t.Fatalf("keyhole pair: exit code %d\n%s", code, pairing.err)
	}
}

// A bridge is a running `keyhole connect`.
type bridge struct {
	*process
	person  *person
	address map[string]string // by service
}

// connect opens local ports and waits until they are told.
func (p *person) connect(t *testing.T, target string, services ...string) *bridge {
	t.Helper()
	args := append([]string{"connect", "--json", target}, services...)
	b := &bridge{start(t, p.command(args...)), p, map[string]string{}}
	testnet.Eventually(t, "local ports", func() error {
		if !b.running() {
			t.Fatalf("keyhole connect has ended with %d: %s", b.wait(t), b.err)
		}
		for line := range strings.Lines(b.out.String()) {
			var port struct{ Service, Address string }
			if err := json.Unmarshal([]byte(line), &port); err != nil {
				return err
			}
			b.address[port.Service] = port.Address
		}
		if len(b.address) < len(services) {
			return fmt.Errorf("only %v", b.address)
		}
		return nil
	})
	return b
}

// fetch gets a page of the web service through the local port.
func (b *bridge) fetch(path string) error {
	out, err := b.person.Command("curl", "-sSf", "--max-time", "20", "-o", "/dev/null", "http://"+b.address["web"]+path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
