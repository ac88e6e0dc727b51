package testnet

import (
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Line is what a long cable does to packets, each way; for kernels without
// netem it is emulated in user space, at up to some 200 Mbit/s on a small machine.
// The zero value delivers everything at once.
type Line struct {
	Delay time.Duration // one way
	Loss  float64       // probability that a packet is lost
	Rate  float64       // of the bottleneck, in bit/s; 0: as fast as this machine
	Queue time.Duration // what waits before the bottleneck; 0: 50 ms of it
}

// defaultQueue is a common size of a router's buffer.
const defaultQueue = 50 * time.Millisecond

// lineRoom is how many packets are under way on a line at most: 200 Mbit/s for a
// second and more.
const lineRoom = 1 << 15

// Line puts a long cable between a home's router and the switch, in place of what
// was there.
func (n *Internet) Line(t testing.TB, h *Home, line Line) {
	t.Helper()
	if h.unplug != nil {
		h.unplug()
	} else {
		h.Router.IP(t, "link del dev wan")
	}
	h.unplug = n.lay(t, h.Router, h.Outside.String(), line)
}

// HostLine is Host at the end of a long cable.
func (n *Internet) HostLine(t testing.TB, address string, line Line) *Namespace {
	t.Helper()
	h := New(t)
	n.lay(t, h, address, line)
	return h
}

// lay is plug with a long cable: two TAP devices, and this process between them.
func (n *Internet) lay(t testing.TB, h *Namespace, address string, line Line) (unplug func()) {
	t.Helper()
	port := "p" + address[strings.LastIndex(address, ".")+1:]
	outside, inside := n.sw.tap(t, port), h.tap(t, "wan")
	n.sw.batch(t, "link set dev "+port+" txqueuelen 10000 up", "link set dev "+port+" master net0")
	h.batch(t, "link set dev wan txqueuelen 10000")
	h.wan(t, address)
	var carriers sync.WaitGroup
	carriers.Go(func() { line.carry(outside, inside, 1) })
	carriers.Go(func() { line.carry(inside, outside, 2) })
	unplug = sync.OnceFunc(func() {
		outside.Close()
		inside.Close()
		carriers.Wait()
	})
	t.Cleanup(unplug)
	return unplug
}

type frame struct {
	due time.Time
	b   []byte
}

// carry takes frames from one device to the other until the first is closed.
func (l Line) carry(from, to *os.File, seed uint64) {
	queue := l.Queue
	if queue == 0 {
		queue = defaultQueue
	}
	onTheWay := make(chan frame, lineRoom)
	defer close(onTheWay)
	go deliver(onTheWay, to)
	chance := rand.New(rand.NewPCG(seed, seed)) // the same losses in each run, as far as the traffic is the same
	buf := make([]byte, 1<<16)
	var free time.Time // when the bottleneck has sent what it was given
	for {
		k, err := from.Read(buf)
		if err != nil {
			return
		}
		now := time.Now()
		if l.Loss > 0 && chance.Float64() < l.Loss {
			continue
		}
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > queue {
			continue
		}
		if l.Rate > 0 {
			free = free.Add(time.Duration(float64(k) * 8 / l.Rate * float64(time.Second)))
		}
		select {
		case onTheWay <- frame{free.Add(l.Delay), append([]byte(nil), buf[:k]...)}:
		default: // more than a line holds is lost
		}
	}
}

func deliver(onTheWay <-chan frame, to *os.File) {
	for f := range onTheWay {
		if wait := time.Until(f.due); wait > 0 {
			time.Sleep(wait)
		}
		_, _ = to.Write(f.b) // a device that is down or closed loses it
	}
}
