//go:build linux

package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/internal/testnats"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
)

// A station is one process of a basestation.
type station struct {
	t       *testing.T
	dir     string
	address string
	nats    string
	process *process
	leaving bool // it was told to stop: nobody is sent there
}

// stations lays out n nodes of one basestation, none of them running.
//
//	devices, clients --- node 0   node 1   node 2     127.x.y.1 to 3, UDP and TCP 7443
//	                       |        |        |
//	                     nats 0 - nats 1 - nats 2     a cluster of its own
func stations(t *testing.T, n int, nats string) (all []*station, roots []attach.Root) {
	t.Helper()
	var network [2]byte
	_, _ = rand.Read(network[:]) // never fails
	for i := range n {
		s := &station{t: t, dir: t.TempDir(), nats: nats, address: fmt.Sprintf("127.%d.%d.%d:7443", 10+network[0]%100, network[1], i+1)}
		if i > 0 { // the roots and the seal of the store are the fleet's, all else is a node's own
			for _, name := range []string{"root.pem", "fleet.key"} {
				data, err := os.ReadFile(filepath.Join(all[0].dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		keys := finish(t, exec.Command(program("keyhole-basestation"), "key", "--data", s.dir))
		if i == 0 {
			for _, word := range strings.Fields(keys.out) {
				if key, err := attach.ParseRootKey(word); err == nil {
					roots = append(roots, attach.Root{Key: key})
				}
			}
			if len(roots) == 0 {
				t.Fatalf("no root key: %s%s", keys.out, keys.err)
			}
		}
		all = append(all, s)
	}
	return all, roots
}

func (s *station) run() {
	s.t.Helper()
	s.process = start(s.t, exec.Command(program("keyhole-basestation"), "serve", "--data", s.dir,
		"--listen", s.address, "--advertise", s.address, "--api", "", "--nats", s.nats))
}

// serving waits until the node takes devices.
func (s *station) serving() {
	s.t.Helper()
	testnet.Until(s.t, "a node serves", func() bool {
		return strings.Contains(s.process.err.String(), "msg=serving") || !s.process.running()
	})
	if !s.process.running() {
		s.t.Fatal("a node does not serve")
	}
}

// A member is a simulated device or client with a socket of its own.
type member struct {
	*reach.Link
	key  *identity.Key
	udp  *net.UDPConn
	stop func()

	mu       sync.Mutex
	attached []arrival
}

// An arrival is a moment at which a device found itself attached.
type arrival struct {
	at   time.Time
	node netip.AddrPort
}

type wire struct{ *net.UDPConn }

func (w wire) WriteTo(p []byte, to netip.AddrPort) error {
	_, err := w.WriteToUDPAddrPort(p, to)
	return err
}

func join(t *testing.T, ip string, c reach.LinkConfig) *member {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	m := &member{key: key, udp: udp}
	c.Key, c.Packets = key, wire{udp}
	if c.Message == nil {
		c.Message = m.agree
	}
	c.Event = m.note
	if m.Link, err = reach.NewLink(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running, reading sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) }) // it ends with ctx alone
	reading.Go(func() {
		buffer := make([]byte, attach.MaxPacket)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				m.Deliver(from, buffer[:n])
			}
		}
	})
	var once sync.Once
	m.stop = func() {
		once.Do(func() {
			cancel()
			running.Wait()
			udp.Close()
			reading.Wait()
		})
	}
	return m
}

func (m *member) note(e attach.LinkEvent) {
	if e.State != attach.StateAttached {
		return
	}
	if c, ok := m.Node(); ok {
		m.mu.Lock()
		m.attached = append(m.attached, arrival{time.Now(), c.Address(netip.IPv4Unspecified())})
		m.mu.Unlock()
	}
}

// at is the node to which the device is attached now; zero for none.
func (m *member) at() netip.AddrPort { return m.Status().Node }

// arrived is the first arrival after a moment.
func (m *member) arrived(after time.Time) (arrival, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.attached {
		if a.at.After(after) {
			return a, true
		}
	}
	return arrival{}, false
}

// agree says yes to every client, as a device does to those it knows.
func (m *member) agree(k attach.Kind, body []byte) {
	var asked attach.Introduction
	if k != attach.KindIntroduction || attach.Decode(body, &asked) != nil {
		return
	}
	client, err := asked.Check(m.key.ID())
	if err != nil {
		return
	}
	here := []netip.AddrPort{m.udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	offer, err := attach.SignOffer(m.key, [32]byte(asked.Hash), m.key.ID(), client, attach.UDP, here)
	if err == nil {
		_ = m.Send(attach.KindAnswer, attach.Answer{Request: asked.Request, Offer: offer}) // the test sees what is missing
	}
}

// A world is a fleet with its devices.
type world struct {
	t       *testing.T
	nats    *testnats.Cluster
	nodes   []*station
	roots   []attach.Root
	devices []*member
	clients int
}

func (w *world) addresses() (all []string) {
	for _, n := range w.nodes {
		all = append(all, n.address)
	}
	return all
}

func (w *world) attach(devices int) {
	w.t.Helper()
	began := time.Now()
	for i := range devices {
		addresses := w.addresses()
		slices.Reverse(addresses[:1+i%len(addresses)]) // not all ask the same node first
		d := join(w.t, fmt.Sprintf("127.1.%d.%d", i/200, 1+i%200), reach.LinkConfig{Roots: w.roots, Addresses: addresses})
		w.t.Cleanup(d.stop)
		w.devices = append(w.devices, d)
	}
	w.await("all devices are attached", func() bool {
		return !slices.ContainsFunc(w.devices, func(d *member) bool { return !d.at().IsValid() })
	})
	w.t.Logf("%d devices attached within %v: %v", devices, time.Since(began).Round(time.Millisecond), w.shares())
}

func (w *world) await(what string, done func() bool) {
	w.t.Helper()
	testnet.Eventually(w.t, what, func() error {
		if !done() {
			return fmt.Errorf("the nodes have %v", w.shares())
		}
		return nil
	})
}

// shares counts the devices of each node.
func (w *world) shares() map[string]int {
	count := make(map[string]int)
	for _, d := range w.devices {
		count[d.at().String()]++
	}
	return count
}

// introduce asks one node for a device and returns how long its yes took.
func (w *world) introduce(via *station, d *member) (time.Duration, error) {
	w.clients++
	answers := make(chan attach.Kind, 8)
	// Who remembers a node's certificate goes there and to no other.
	var known attach.Known
	for _, other := range w.devices {
		if other.at().String() == via.address {
			known = attach.Known{Certificate: other.Known().Certificate}
			break
		}
	}
	began := time.Now()
	client := join(w.t, fmt.Sprintf("127.2.%d.%d", w.clients/200%200, 1+w.clients%200), reach.LinkConfig{
		Roots: w.roots, Addresses: []string{via.address}, Known: known,
		Introduce: &attach.Introduce{Device: d.key.ID()},
		Message: func(k attach.Kind, _ []byte) {
			if k == attach.KindIntroduced || k == attach.KindNotIntroduced {
				select {
				case answers <- k:
				default:
				}
			}
		},
	})
	defer client.stop()
	end := time.After(lateYes)
	said := "nothing"
	for {
		select {
		case k := <-answers:
			if k == attach.KindIntroduced {
				return time.Since(began), nil
			}
			said = "no" // a second has passed; a yes may still come
		case <-end:
			return 0, fmt.Errorf("the node said %s, %+v", said, client.Status())
		}
	}
}

// lateYes is how long a node passes on the yes of a device that was slow.
const lateYes = 10 * time.Second

// across introduces clients at nodes where the device is not.
func (w *world) across(times int) (failed int) {
	w.t.Helper()
	var took []time.Duration
	var last error
	for i := 0; i < times; i++ {
		d := w.devices[(w.clients*7)%len(w.devices)] // not one too often: that is limited
		at := d.at().String()
		var via *station
		for j := range w.nodes {
			if n := w.nodes[(i+j)%len(w.nodes)]; n.address != at && !n.leaving && n.process != nil && n.process.running() {
				via = n
			}
		}
		if via == nil {
			w.t.Fatal("no other node runs")
		}
		d1, err := w.introduce(via, d)
		if err != nil {
			failed, last = failed+1, err
			w.t.Logf("a device, which is at %s since %v, was asked for at %s: %v", at, time.Since(d.Status().Since), via.address, err)
			continue
		}
		took = append(took, d1)
	}
	slices.Sort(took)
	if len(took) > 0 {
		w.t.Logf("%d introductions at a node where the device is not: p50 %v, worst %v, failed %d (%v)", times,
			took[len(took)/2].Round(time.Millisecond/10), took[len(took)-1].Round(time.Millisecond/10), failed, last)
	}
	return failed
}

// back tells how long the devices took that were at a node which went at a moment.
func (w *world) back(went time.Time, were []*member) {
	w.t.Helper()
	var took []time.Duration
	w.await("all devices are back", func() bool {
		took = took[:0]
		for _, d := range were {
			a, ok := d.arrived(went)
			if !ok {
				return false
			}
			took = append(took, a.at.Sub(went))
		}
		return true
	})
	slices.Sort(took)
	w.t.Logf("%d devices are back: p50 %v, p95 %v, last %v; now %v", len(took), took[len(took)/2].Round(time.Millisecond),
		took[len(took)*95/100].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), w.shares())
}

func (w *world) devicesAt(s *station) (some []*member) {
	for _, d := range w.devices {
		if d.at().String() == s.address {
			some = append(some, d)
		}
	}
	return some
}

// TestFleet: three nodes on a cluster of three NATS servers. A NATS server is
// killed, a node is killed and comes back, a node goes for good, another joins.
func TestFleet(t *testing.T) {
	testnet.Root(t)
	full := os.Getenv("KEYHOLE_FULL") != ""
	w := &world{t: t, nats: testnats.Start(t, 3, nil)}
	w.nodes, w.roots = stations(t, 3, w.nats.URL())
	for _, n := range w.nodes {
		n.run()
	}
	for _, n := range w.nodes {
		n.serving()
	}
	count, asks := 150, 30
	if full {
		count = 1500
	}
	w.attach(count)
	if failed := w.across(asks); failed > 0 {
		t.Errorf("%d introductions across nodes failed", failed)
	}

	t.Log("a NATS server is killed:")
	before := w.shares()
	leader := w.nats.Leader("KV_keyhole")
	leader.Kill()
	if failed := w.across(asks); failed > 0 {
		t.Logf("%d failed while NATS chose another leader", failed)
	}
	killed := time.Now()
	leader.Restart()
	// The servers take some seconds to choose a leader; until then no record is read.
	records, err := natsstore.Open(t.Context(), natsstore.Config{URL: w.nats.URL()})
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("NATS is whole again after %v", time.Since(killed).Round(time.Millisecond))
	if failed := w.across(asks); failed > 0 {
		t.Errorf("%d introductions failed after NATS was whole again", failed)
	}
	if after := w.shares(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("devices moved because of NATS: %v, before %v", after, before)
	}

	t.Log("a node is killed and started again:")
	were := w.devicesAt(w.nodes[1])
	w.nodes[1].process.kill()
	w.nodes[1].run()
	restarted := time.Now()
	w.nodes[1].serving()
	t.Logf("it serves again after %v", time.Since(restarted).Round(time.Millisecond))
	w.back(restarted, were)
	if !full {
		return
	}

	t.Log("a node is killed for good:")
	were = w.devicesAt(w.nodes[2])
	w.nodes[2].process.kill()
	w.back(time.Now(), were)
	t.Log("a node joins:")
	w.nodes[2].run()
	joined := time.Now()
	failed, asked := 0, 0
	for time.Since(joined) < time.Minute {
		failed += w.across(asks)
		asked += asks
	}
	if failed > 0 {
		t.Errorf("%d of %d introductions failed while devices moved", failed, asked)
	}
	share := len(w.devicesAt(w.nodes[2]))
	t.Logf("a minute after it joined the node has %d of %d devices: %v", share, count, w.shares())
	if share < count/4 || share > count*5/12 {
		t.Errorf("its share is a third")
	}

	t.Log("a node is told to stop:")
	stopped := time.Now()
	were = w.devicesAt(w.nodes[0])
	if err := w.nodes[0].process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	failed, asked, w.nodes[0].leaving = 0, 0, true
	for w.nodes[0].process.running() && time.Since(stopped) < 2*patience {
		failed += w.across(asks)
		asked += asks
	}
	if code := w.nodes[0].process.wait(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	t.Logf("it ended after %v; %d of %d introductions at other nodes failed meanwhile", time.Since(stopped).Round(time.Millisecond), failed, asked)
	w.back(stopped, were)
}
