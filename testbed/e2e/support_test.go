//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testface"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/session"
)

// reads looks at the board's front panel, in its network, until a call number and a code are
// to be seen.
func (b *board) reads(t *testing.T) (number, code string) {
	t.Helper()
	page, token, _ := strings.Cut(b.status(t).Board.Web, "/#token=")
	testnet.Eventually(t, "a call number and a code", func() error {
		// The stream has no end; what came is enough.
		r := finish(t, b.Command("curl", "-sN", "-m", "2", "-H", "Keyhole-Token: "+token, page+"/events"))
		words, err := testface.Look(strings.NewReader(r.out))
		if err != nil {
			return err
		}
		number, code = testface.Digits(words, "Call no."), testface.Digits(words, "Support code")
		if len(number) != 6 || len(code) != 6 {
			return fmt.Errorf("it shows %s", strings.Join(words, " | "))
		}
		return nil
	})
	return number, code
}

// supportIs waits until support is so.
func (b *board) supportIs(t *testing.T, state, controlled string) (s control.Support) {
	t.Helper()
	testnet.Eventually(t, "support is "+state+" "+controlled, func() error {
		if s = b.status(t).Support; s.State != state || s.Control != controlled {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	return s
}

// A hotline somewhere else, behind routers of its own, helps at a board that it has never
// heard of: with the real programs from the press to the frame of the camera.
//
//	home, behind a router       internet        desk, behind another
//	board ──────────────── keyhole-basestation ──────────── keyhole support
func TestSupportThroughNAT(t *testing.T) {
	testnet.Root(t)
	t.Parallel() // it mostly waits
	internet := testnet.NewInternet(t)
	station := newBase(t, host{internet.Base})
	home := internet.Home(t, testnet.PortRestricted)
	b := prepareBoard(t, host{home.Host}, boardConfig+"web = \"127.0.0.1:7444\"\n"+station.station())
	b.run(t)
	b.attached(t)
	for _, c := range []struct {
		kind testnet.NAT
		via  session.Via
	}{{testnet.FullCone, ""}, {testnet.Symmetric, session.ViaRelay}} {
		step(t, string(c.kind), func(t *testing.T) {
			desk := newPerson(t, host{internet.Home(t, c.kind).Host}, "desk")
			b.keyholed(t, "press", "support")
			number, code := b.reads(t)
			help := desk.command("support", "--control", "--json", "--at", testnet.BaseAddress+basePort, "--key", station.key)
			help.Stdin = strings.NewReader(number + "\n" + code + "\n")
			helping := start(t, help)
			b.supportIs(t, control.SupportSession, "asked")
			b.keyholed(t, "press", "support", "--hold", "4s")
			b.supportIs(t, control.SupportSession, "allowed")
			me, err := desk.how(boardKey)
			if err != nil || c.via != "" && me.Via != string(c.via) {
				t.Errorf("%+v, %v", me, err)
			}
			t.Logf("behind %s: %s %s", c.kind, me.Via, me.Path)
			var web string
			testnet.Eventually(t, "a port to the web service", func() error {
				for line := range strings.Lines(helping.out.String()) {
					var port struct{ Service, URL string }
					if json.Unmarshal([]byte(line), &port) == nil && port.Service == "web" {
						web = port.URL
						return nil
					}
				}
				return fmt.Errorf("it has said %s %s", helping.out, helping.err)
			})
			if r := finish(t, desk.Command("curl", "-sf", "-o", "/dev/null", "-w", "%{content_type}", web+"frame.jpg")); r.code != 0 || r.out != "image/jpeg" {
				t.Errorf("a frame of the camera: %+v", r)
			}
			desk.refused(t, exitRefused, "revoke", boardKey, "Alice")
			b.keyholed(t, "press", "support", "--hold", "200ms")
			b.supportIs(t, control.SupportIdle, "")
			if code := helping.wait(t); code != exitRefused {
				t.Errorf("keyhole support: exit code %d\n%s", code, helping.err)
			}
			desk.refused(t, exitNotReachable, "call", string(b.status(t).ID), "GET", "/v1/device")
		})
	}
}
