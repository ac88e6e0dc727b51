//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/session"
)

// atOnce is how many commands of a matrix run beside each other: enough to be
// quick, few enough that none is slow for want of a processor.
const atOnce = 3

// Every pair of kinds of routers, with the real programs: each pair connects, and
// directly where theory lets it, by TCP or by UDP.
//
//	6 homes, each with a board and ─┐            ┌─ 6 homes, each with
//	a phone on which Alice pairs    └─ internet ─┘  Alice's laptop
//	                                      │
//	                             keyhole-basestation
func TestRemoteNATMatrix(t *testing.T) {
	testnet.Root(t)
	t.Parallel() // it mostly waits
	internet := testnet.NewInternet(t)
	station := newBase(t, host{internet.Base})
	alice := newPerson(t, host{internet.Base}, "Alice")
	var homes [6]*remoteHome
	var laptops [6]*person
	for i, kind := range testnet.NATs {
		homes[i] = newRemoteHome(t, internet, kind, boardName(kind), station, alice)
		laptops[i] = alice.at(host{internet.Home(t, kind).Host})
	}
	var cells [6][6]string
	var calls sync.WaitGroup
	turn := make(chan struct{}, atOnce)
	for i, there := range testnet.NATs {
		for j, here := range testnet.NATs {
			calls.Go(func() {
				turn <- struct{}{}
				defer func() { <-turn }()
				cells[i][j] = laptops[j].reaches(t, there, here)
			})
		}
	}
	calls.Wait()
	for i, there := range testnet.NATs {
		for j, here := range testnet.NATs {
			if direct(there, here) && strings.HasPrefix(cells[i][j], "relay") {
				cells[i][j] = laptops[j].improves(t, homes[i].board, boardName(there))
			}
		}
	}
	table := fmt.Sprintf("how the first session of a command came\n%-16s", "device \\ client")
	for _, kind := range testnet.NATs {
		table += fmt.Sprintf("%-17s", kind)
	}
	for i, kind := range testnet.NATs {
		table += fmt.Sprintf("\n%-16s", kind)
		for j := range testnet.NATs {
			table += fmt.Sprintf("%-17s", cells[i][j])
		}
	}
	t.Log(table)
}

func boardName(kind testnet.NAT) string { return "Behind " + string(kind) }

// direct tells whether theory lets the two meet without a relay, for sure.
func direct(there, here testnet.NAT) bool {
	udp, known1 := testnet.Meet("udp", there, here)
	tcp, known2 := testnet.Meet("tcp", there, here)
	return udp && known1 || tcp && known2
}

// relayMayWin is how often a session may come by the relay where a direct one is
// possible: the relay begins after 400 ms, and on a busy machine that can be
// before the punches are through.
const relayMayWin = 2

// reaches makes a session, and judges how it came.
func (p *person) reaches(t *testing.T, there, here testnet.NAT) (how string) {
	for range relayMayWin {
		me, err := p.how(boardName(there))
		if err != nil {
			t.Errorf("%s from behind %s: %v", boardName(there), here, err)
			return "-"
		}
		how = me.Via + " " + me.Path
		network := map[string]string{string(session.PathTCP): "tcp", string(session.PathQUIC): "udp"}[me.Path]
		met, known := testnet.Meet(network, there, here)
		switch session.Via(me.Via) {
		case session.ViaPunched:
			if known && !met {
				t.Errorf("%s from behind %s: %+v, against theory", boardName(there), here, me)
			}
			return how
		case session.ViaRelay:
		default: // what the device says of a connection that came before the word of who would come
			if me.Path != string(session.PathTCP) || here != testnet.UDPBlocked {
				t.Errorf("%s from behind %s: %+v, and both are behind routers", boardName(there), here, me)
			}
			return how
		}
		if !direct(there, here) || here == testnet.UDPBlocked {
			return how
		}
	}
	return how
}

// improves holds a session that began relayed, and waits until the relay is not
// needed any more: a client behind a router without UDP finds its basestation
// only after the 400 ms for which it would wait for something better.
func (p *person) improves(t *testing.T, b *board, name string) string {
	t.Helper()
	bridge := p.connect(t, name, "rtsp")
	defer bridge.kill()
	began := time.Now()
	testnet.Eventually(t, name+" without a relay", func() error {
		if err := bridge.works(t.Context()); err != nil {
			return err
		}
		if s := b.status(t); s.Basestation.Relayed != 0 || s.Sessions == 0 {
			return fmt.Errorf("%d sessions, %d relayed legs", s.Sessions, s.Basestation.Relayed)
		}
		return nil
	})
	return "relay, " + time.Since(began).Round(100*time.Millisecond).String()
}
