//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/session"
)

// A pair is a board in one home and its owner's laptop in another.
type pair struct {
	internet *testnet.Internet
	station  *base
	there    *remoteHome
	here     *testnet.Home
	laptop   *person
}

func newPair(t *testing.T, there, here testnet.NAT) *pair {
	t.Helper()
	testnet.Root(t)
	p := &pair{internet: testnet.NewInternet(t)}
	p.station = newBase(t, host{p.internet.Base})
	alice := newPerson(t, host{p.internet.Base}, "Alice")
	p.there = newRemoteHome(t, p.internet, there, boardKey, p.station, alice)
	p.here = p.internet.Home(t, here)
	p.laptop = alice.at(host{p.here.Host})
	return p
}

// Board and laptop get new addresses, the laptop's router gets one, and the laptop is
// carried to another home: the local ports of a running `keyhole connect` work again.
// (When the board's own router gets another address, nothing at the board can tell
// before its next keep-alive.)
func TestRemoteAddressChanges(t *testing.T) {
	p := newPair(t, testnet.PortRestricted, testnet.PortRestricted)
	elsewhere := p.internet.Home(t, testnet.PortRestricted)
	bridge := p.laptop.connect(t, boardKey, "rtsp", "web")
	if err := bridge.works(t.Context()); err != nil {
		t.Fatal(err)
	}
	measure(t, bridge, "the board gets another address", func(i int) {
		p.there.Renumber(t, p.there.Host, 30+i)
	})
	measure(t, bridge, "the laptop's router gets another address", func(i int) {
		p.here.Readdress(t, fmt.Sprintf("198.51.100.%d", 140+i))
	})
	measure(t, bridge, "the laptop gets another address", func(i int) {
		p.here.Renumber(t, p.here.Host, 30+i)
	})
	measure(t, bridge, "the laptop is carried to another home", func(i int) {
		[]*testnet.Home{elsewhere, p.here}[i%2].Move(t, p.here.Host, 50+i)
	})
	if err := bridge.fetch("/frame.jpg"); err != nil {
		t.Error(err)
	}
}

// The basestation is killed and started again: the board is back, and a tunnel that
// goes direct never notices.
func TestRemoteBasestationIsKilled(t *testing.T) {
	p := newPair(t, testnet.PortRestricted, testnet.PortRestricted)
	const every = 20 * time.Millisecond
	p.there.board.serve(t, bulk, func(conn *net.TCPConn) {
		for {
			if _, err := conn.Write([]byte("tick")); err != nil {
				return
			}
			time.Sleep(every)
		}
	})
	bridge := p.laptop.connect(t, boardKey, "bulk")
	testnet.Eventually(t, "a direct bridge, for a relay ends with the basestation", func() error {
		if n := p.there.board.status(t).Basestation.Relayed; n != 0 {
			return fmt.Errorf("%d relayed connections", n)
		}
		return nil
	})
	conn, err := p.laptop.dial("tcp", bridge.address["bulk"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var longest atomic.Int64
	ended := make(chan error, 1)
	go func() {
		buf := make([]byte, 4)
		last := time.Now()
		for {
			if _, err := io.ReadFull(conn, buf); err != nil {
				ended <- err
				return
			}
			longest.Store(max(longest.Load(), int64(time.Since(last))))
			last = time.Now()
		}
	}()
	var took []time.Duration
	for range changes {
		p.station.process.kill()
		p.station.run(t)
		began := time.Now()
		testnet.Eventually(t, "an introduction", func() error {
			me, err := p.laptop.how(boardKey)
			if err == nil && me.Via == string(session.ViaDirect) {
				err = fmt.Errorf("reached directly: %+v", me)
			}
			return err
		})
		took = append(took, time.Since(began).Round(time.Millisecond))
		select {
		case err := <-ended:
			t.Fatalf("the direct tunnel ended with the basestation: %v", err)
		default:
		}
	}
	slices.Sort(took)
	t.Logf("basestation killed and started: a new command reaches the board after %v (goal: p95 5 s)", took)
	t.Logf("the direct tunnel was silent for %v at most, with a word each %v", time.Duration(longest.Load()).Round(time.Millisecond), every)
}
