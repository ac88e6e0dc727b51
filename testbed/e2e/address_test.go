//go:build linux

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
)

// changes of each kind are measured.
const changes = 5

// works opens a new connection through the local port and asks the camera for a
// sign of life.
func (b *bridge) works(ctx context.Context) error {
	conn, err := b.person.dial("tcp", b.address["rtsp"])
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := fmt.Fprintf(conn, "OPTIONS rtsp://%s/live RTSP/1.0\r\nCSeq: 1\r\n\r\n", b.address["rtsp"]); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(answer, "RTSP/1.0 200") {
		err = fmt.Errorf("the camera says %q", answer)
	}
	return err
}

// again tells how long it takes from now until a new connection works, when
// somebody tries ten times a second and waits for each.
func (b *bridge) again(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	worked := make(chan struct{}, 1)
	results := make(chan error, 1)
	try := time.NewTicker(100 * time.Millisecond)
	defer try.Stop()
	var tries sync.WaitGroup
	var last error
	for {
		tries.Go(func() {
			err := b.works(ctx)
			if err == nil {
				select {
				case worked <- struct{}{}:
				default:
				}
				return
			}
			select {
			case results <- err:
			default:
			}
		})
		select {
		case <-worked:
			took := time.Since(began)
			tries.Wait() // what waited with it works too
			return took
		case <-ctx.Done():
			t.Fatalf("no new connection works: %v\nkeyhole connect says: %s", last, b.err)
		case last = <-results:
			<-try.C
		case <-try.C:
		}
	}
}

// measure makes a change several times and tells how long connections took.
func measure(t *testing.T, b *bridge, what string, change func(i int)) {
	t.Helper()
	var took []time.Duration
	for i := range changes {
		change(i)
		took = append(took, b.again(t).Round(time.Millisecond))
	}
	slices.Sort(took)
	t.Logf("%s: new connections work again after %v (goal: p95 2 s)", what, took)
}

// Addresses change, as DHCP does, and the link goes down and comes up: mDNS
// follows, and the local ports of a running `keyhole connect` work again.
//
//	           switch
//	  ┌──────────┼──────────┐
//	board      laptop     phone
//	 .1, .11…   .2, .22…   .3 avahi
func TestAddressesChange(t *testing.T) {
	// With IPv6 a session may live on a link-local address that stays.
	t.Run("IPv4 and IPv6", func(t *testing.T) { addressesChange(t, func(host) {}) })
	t.Run("IPv4 alone", func(t *testing.T) {
		addressesChange(t, func(h host) { must(t, h.Command("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")) })
	})
}

func addressesChange(t *testing.T, prepare func(host)) {
	lan := newLAN(t)
	at, mine := "10.77.0.1", "10.77.0.2"
	camera, laptop := lan.join(t, "board", at+"/24"), lan.join(t, "laptop", mine+"/24")
	prepare(camera)
	prepare(laptop)
	b := newBoard(t, camera)
	alice := newPerson(t, laptop, "Alice")
	phone := testnet.StartAvahi(t, lan.join(t, "phone", "10.77.0.3/24").Namespace)
	alice.pair(t, b, "10.77.0.1:7443")
	bridge := alice.connect(t, "Front door", "rtsp", "web")
	if err := bridge.works(t.Context()); err != nil {
		t.Fatal(err)
	}

	renumber := func(h host, from, to string) {
		h.IP(t, "addr del "+from+"/24 dev eth0")
		h.IP(t, "addr add "+to+"/24 dev eth0")
	}
	measure(t, bridge, "board gets another address", func(i int) {
		next := fmt.Sprintf("10.77.0.%d", 11+i)
		renumber(b.host, at, next)
		at = next
	})
	phone.Sees(t, tcpService, at)
	phone.SawLast(t, tcpService, "10.77.0.1;")

	measure(t, bridge, "laptop gets another address", func(i int) {
		next := fmt.Sprintf("10.77.0.%d", 22+i)
		renumber(alice.host, mine, next)
		mine = next
	})
	measure(t, bridge, "board's link goes down and up", func(int) {
		b.IP(t, "link set dev eth0 down")
		b.IP(t, "link set dev eth0 up")
	})
	measure(t, bridge, "laptop's link goes down and up", func(int) {
		alice.IP(t, "link set dev eth0 down")
		alice.IP(t, "link set dev eth0 up")
	})
	if err := bridge.fetch("/frame.jpg"); err != nil {
		t.Error(err)
	}
}

// The daemon is killed and started again while `keyhole connect` runs.
//
//	board .1 ── switch ── laptop .2
func TestDaemonIsKilled(t *testing.T) {
	lan := newLAN(t)
	b := newBoard(t, lan.join(t, "board", "10.77.0.1/24"))
	alice := newPerson(t, lan.join(t, "laptop", "10.77.0.2/24"), "Alice")
	alice.pair(t, b, "10.77.0.1:7443")
	bridge := alice.connect(t, "Front door", "rtsp", "web")
	measure(t, bridge, "keyholed is killed and back", func(int) {
		b.daemon.kill()
		b.run(t)
	})
	if err := bridge.fetch("/frame.jpg"); err != nil {
		t.Error(err)
	}
	b.keyholed(t, "audit", "--verify")
	if n := b.status(t).Users; n != 1 {
		t.Errorf("%d users, want Alice", n)
	}
}
