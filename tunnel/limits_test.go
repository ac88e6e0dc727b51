package tunnel

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// piped is one end of a connection in memory, for virtual time: real sockets do
// not stand still in it. It cannot tell when bytes are there.
type piped struct {
	*io.PipeReader
	*io.PipeWriter
}

func (p piped) CloseWrite() error { return p.PipeWriter.Close() }
func (p piped) Close() error {
	p.PipeReader.Close()
	return p.PipeWriter.Close()
}

func pipedPair() (a, b piped) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	return piped{r1, w2}, piped{r2, w1}
}

// inVirtualTime runs a Pump and returns its report and how long it took.
func inVirtualTime(t *testing.T, p Pump, with func(client, service piped)) (r Report) {
	synctest.Test(t, func(t *testing.T) {
		client, in := pipedPair()
		out, service := pipedPair()
		done := make(chan struct{})
		go func() { defer close(done); r = p.Run(context.Background(), in, out) }()
		with(client, service)
		<-done
		client.Close()
		service.Close()
	})
	return r
}

// within is the documented accuracy: a limit strikes at most a quarter of the
// shortest limit late.
func within(t *testing.T, r Report, why Why, limit, shortest time.Duration) {
	t.Helper()
	if r.Why != why || r.Duration < limit || r.Duration > limit+shortest/watchesPerLimit {
		t.Errorf("%s after %v, want %s after %v to %v", r.Why, r.Duration, why, limit, limit+shortest/watchesPerLimit)
	}
}

func TestIdleEndsWhatIsForgotten(t *testing.T) {
	r := inVirtualTime(t, Pump{}, func(_, _ piped) {})
	within(t, r, WhyIdle, DefaultIdle, DefaultStall)
}

// A byte in either direction counts for both.
func TestABytePutsIdleOff(t *testing.T) {
	r := inVirtualTime(t, Pump{}, func(client, service piped) {
		one := make([]byte, 1)
		for range 3 {
			time.Sleep(DefaultIdle - time.Hour/2) // virtual
			client.Write(one)
			service.Read(one)
			time.Sleep(DefaultIdle - time.Hour/2)
			service.Write(one)
			client.Read(one)
		}
	})
	within(t, r, WhyIdle, 6*(DefaultIdle-time.Hour/2)+DefaultIdle, 2*DefaultStall)
	if r.Up != 3 || r.Down != 3 {
		t.Errorf("report %+v", r)
	}
}

func TestHalfClosedTunnelsAreLessPatient(t *testing.T) {
	r := inVirtualTime(t, Pump{}, func(client, service piped) {
		client.CloseWrite()
		service.Read(make([]byte, 1))
	})
	within(t, r, WhyIdle, DefaultHalfIdle, DefaultStall)
}

func TestStallEndsAClientThatTakesNothing(t *testing.T) {
	r := inVirtualTime(t, Pump{}, func(client, service piped) {
		service.Write([]byte("nobody takes this"))
	})
	within(t, r, WhyStalled, DefaultStall, DefaultStall)
}

// A client that stops reading costs a buffer and the kernel's own: 64 of them,
// with a service each that would send without end.
func TestStalledClientsDoNotGrowMemory(t *testing.T) {
	const tunnels = 64
	b := NewBridge(Config{PerPeer: tunnels})
	block := make([]byte, 1<<20)
	rand.Read(block)
	address := serve(t, "tcp4", "127.0.0.1:0", func(c Conn) {
		for range 64 {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	s := mustService(t, "big", "tcp", address)
	before := heap()
	ctx, cut := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range tunnels {
		tun, err := b.Open(ctx, Meta{}, s)
		if err != nil {
			t.Fatal(err)
		}
		_, in := ends(t, "tcp4")
		in.(*net.TCPConn).SetWriteBuffer(16 << 10)
		all.Go(func() { tun.Run(ctx, in) })
	}
	settle(b)
	grown := heap() - before
	t.Logf("%d stalled tunnels: %d KiB of heap each", tunnels, grown/tunnels>>10)
	if grown > tunnels*(bufferBytes+32<<10) {
		t.Errorf("%d KiB for each stalled tunnel, want one buffer of 64 KiB and a little", grown/tunnels>>10)
	}
	cut()
	all.Wait()
}

// settle waits until no tunnel moves a byte any more.
func settle(b *Bridge) {
	sum := func() (n int64) {
		for _, l := range b.List() {
			n += l.Up + l.Down
		}
		return n
	}
	for same, last := 0, int64(-1); same < 1000; {
		if now := sum(); now == last && now > 0 {
			same++
		} else {
			same, last = 0, now
		}
		runtime.Gosched()
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // the pools give up what they hold in two rounds
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
