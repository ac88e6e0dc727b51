package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/store"
)

// wire is a node's way to the store, which can be cut.
type wire struct {
	store.Store
	cut atomic.Bool
}

func (w *wire) Publish(subject string, data []byte) error {
	if w.cut.Load() {
		return store.ErrUnavailable
	}
	return w.Store.Publish(subject, data)
}

func (w *wire) Subscribe(pattern string, hear func(string, []byte, func([]byte))) (func(), error) {
	return w.Store.Subscribe(pattern, func(subject string, data []byte, reply func([]byte)) {
		if !w.cut.Load() {
			hear(subject, data, reply)
		}
	})
}

// bench is a fleet whose nodes are named n0, n1 and so on.
type bench struct {
	t     *testing.T
	base  *memstore.Store
	nodes []*running
}

type running struct {
	*Fleet
	wire    *wire
	stop    context.CancelFunc
	ended   chan error
	changed chan []Node
}

func newBench(t *testing.T, nodes int) *bench {
	b := &bench{t: t, base: memstore.New()}
	for i := range nodes {
		b.start(fmt.Sprintf("n%d", i))
	}
	return b
}

func (b *bench) start(id string) *running {
	b.t.Helper()
	r := &running{wire: &wire{Store: b.base.Join()}, ended: make(chan error, 1), changed: make(chan []Node, 100)}
	f, err := New(Config{
		Store:   r.wire,
		Self:    Node{ID: id, Address: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7443")}, Certificate: []byte(id)},
		Changed: func(live []Node) { r.changed <- live },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	f.Handle("echo", func(_ context.Context, from string, body []byte) ([]byte, error) {
		return append([]byte(id+" to "+from+": "), body...), nil
	})
	r.Fleet = f
	ctx, stop := context.WithCancel(b.t.Context())
	r.stop = stop
	go func() { r.ended <- f.Run(ctx) }()
	select {
	case <-f.Ready():
	case err := <-r.ended:
		r.ended <- err
	}
	b.nodes = append(b.nodes, r)
	return r
}

// kill ends a node as a crash does: nobody hears a good-bye.
func (r *running) kill() {
	r.wire.cut.Store(true)
	r.stop()
	<-r.ended
}

func (b *bench) close() {
	for _, n := range b.nodes {
		n.stop()
	}
	synctest.Wait()
	for _, n := range b.nodes {
		n.wire.Close()
	}
	b.base.Close()
}

func names(nodes []Node) (all []string) {
	for _, n := range nodes {
		all = append(all, n.ID)
	}
	return all
}

func (b *bench) wantLive(r *running, want ...string) {
	b.t.Helper()
	if got := names(r.Live()); !slices.Equal(got, want) {
		b.t.Errorf("%s sees %v, want %v", r.Self().ID, got, want)
	}
}

func TestMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		defer b.close()
		began := time.Now()
		b.wantLive(b.nodes[0], "n0")
		if took := time.Since(began); took != 0 {
			t.Errorf("a node that is alone was ready after %v, want at once", took)
		}
		b.start("n1")
		b.start("n2")
		synctest.Wait()
		for _, n := range b.nodes {
			b.wantLive(n, "n0", "n1", "n2")
		}
		if n, ok := b.nodes[0].Find("n2"); !ok || string(n.Certificate) != "n2" || len(n.Address) != 1 {
			t.Errorf("n0 knows of n2: %+v, %v", n, ok)
		}
		time.Sleep(time.Minute)
		for _, n := range b.nodes {
			b.wantLive(n, "n0", "n1", "n2")
		}

		// One is killed: out after three seconds, and not before two.
		b.nodes[1].kill()
		time.Sleep(OutAfter - BeatEvery - time.Millisecond)
		b.wantLive(b.nodes[0], "n0", "n1", "n2")
		time.Sleep(BeatEvery + BeatEvery/10 + time.Millisecond)
		synctest.Wait()
		b.wantLive(b.nodes[0], "n0", "n2")
		b.wantLive(b.nodes[2], "n0", "n2")

		// One says good-bye: out at once. One starts again under its name.
		b.nodes[2].stop()
		synctest.Wait()
		b.wantLive(b.nodes[0], "n0")
		b.start("n1")
		synctest.Wait()
		b.wantLive(b.nodes[0], "n0", "n1")
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3)
		defer b.close()
		synctest.Wait()
		b.nodes[1].Leave()
		synctest.Wait()
		for _, n := range b.nodes {
			b.wantLive(n, "n0", "n1", "n2")
			for prefix := range 1 << 16 {
				if at := n.Locate(uint16(prefix)); at.ID == "n1" {
					t.Fatalf("%s: prefix %04x is at n1, which drains", n.Self().ID, prefix)
				}
			}
		}
		if _, err := b.nodes[0].Call(t.Context(), "n1", "echo", nil); err != nil {
			t.Errorf("a draining node is called: %v", err)
		}
		// When all drain, they share what there is.
		b.nodes[0].Leave()
		b.nodes[2].Leave()
		synctest.Wait()
		shares := shares(b.nodes[0].Fleet)
		if len(shares) != 3 {
			t.Errorf("all drain: %v", shares)
		}
	})
}

func shares(f *Fleet) map[string]int {
	count := map[string]int{}
	for prefix := range 1 << 16 {
		count[f.Locate(uint16(prefix)).ID]++
	}
	return count
}

// TestRendezvous: every node has its share, all nodes agree, and one more moves
// to itself what becomes its share and nothing between the others.
func TestRendezvous(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 10, 50} {
		var nodes []Node
		for i := range n {
			nodes = append(nodes, Node{ID: fmt.Sprintf("node-%d", i)})
		}
		before := seen(slices.Clone(nodes))
		after := seen(append(slices.Clone(nodes), Node{ID: "new"}))
		count := map[string]int{}
		moved := 0
		for prefix := range 1 << 16 {
			was, is := before.locate(uint16(prefix)).ID, after.locate(uint16(prefix)).ID
			count[was]++
			if was != is {
				moved++
				if is != "new" {
					t.Fatalf("%d nodes: prefix %04x moved from %s to %s when another node came", n, prefix, was, is)
				}
			}
		}
		fair := float64(1<<16) / float64(n)
		for id, c := range count {
			if f := float64(c) / fair; f < 0.85 || f > 1.15 {
				t.Errorf("%d nodes: %s has %.2f of its share", n, id, f)
			}
		}
		if f := float64(moved) * float64(n+1) / (1 << 16); f < 0.85 || f > 1.15 {
			t.Errorf("%d nodes and one more: moved %d prefixes, %.2f of 1/%d", n, moved, f, n+1)
		}
	}
}

// TestCut: a node that hears nobody, itself included, keeps the list; the others
// put it out and take it back.
func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3)
		defer b.close()
		synctest.Wait()
		time.Sleep(10*time.Second + 700*time.Millisecond)
		b.nodes[2].wire.cut.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.wantLive(b.nodes[0], "n0", "n1")
		b.wantLive(b.nodes[2], "n0", "n1", "n2")
		if !b.nodes[2].Isolated() || b.nodes[0].Isolated() {
			t.Error("who is isolated: n2 alone")
		}
		b.nodes[2].wire.cut.Store(false)
		time.Sleep(2 * BeatEvery)
		synctest.Wait()
		for _, n := range b.nodes {
			b.wantLive(n, "n0", "n1", "n2")
		}
		if b.nodes[2].Isolated() {
			t.Error("n2 is still isolated")
		}
	})
}

func TestTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2)
		defer b.close()
		twin := b.start("n0")
		if err := <-twin.ended; !errors.Is(err, ErrTwin) {
			t.Errorf("second n0: got %v, want ErrTwin", err)
		}
		time.Sleep(10 * BeatEvery)
		synctest.Wait()
		b.wantLive(b.nodes[1], "n0", "n1")
	})
}

func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		defer b.close()
		b.start("n1")
		synctest.Wait()
		if got := names(<-b.nodes[0].changed); !slices.Equal(got, []string{"n0", "n1"}) {
			t.Errorf("joined: %v", got)
		}
		b.nodes[1].Leave()
		synctest.Wait()
		if got := <-b.nodes[0].changed; !got[1].Draining {
			t.Errorf("draining: %+v", got)
		}
		to := []netip.AddrPort{netip.MustParseAddrPort("198.51.100.7:443")}
		if err := b.nodes[1].Announce(to, []byte("new")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := <-b.nodes[0].changed; !slices.Equal(got[1].Address, to) || !got[1].Draining || string(got[1].Certificate) != "new" {
			t.Errorf("moved: %+v", got)
		}
		b.nodes[1].stop()
		synctest.Wait()
		if got := names(<-b.nodes[0].changed); !slices.Equal(got, []string{"n0"}) {
			t.Errorf("left: %v", got)
		}
		if len(b.nodes[0].changed) != 0 {
			t.Errorf("%d more calls of Changed", len(b.nodes[0].changed))
		}
	})
}

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2)
		defer b.close()
		ctx := t.Context()
		one := b.nodes[0]
		if got, err := one.Call(ctx, "n1", "echo", []byte("hi")); err != nil || string(got) != "n1 to n0: hi" {
			t.Errorf("call: got %q, %v", got, err)
		}
		if got, err := one.Call(ctx, "n0", "echo", []byte("me")); err != nil || string(got) != "n0 to n0: me" {
			t.Errorf("call of myself: got %q, %v", got, err)
		}
		largest := bytes.Repeat([]byte("x"), MaxBodyBytes)
		if _, err := one.Call(ctx, "n1", "echo", largest[:MaxBodyBytes-20]); err != nil {
			t.Errorf("large call: %v", err)
		}
		if _, err := one.Call(ctx, "n1", "echo", largest); err == nil {
			t.Error("an answer above the limit came through")
		}
		if _, err := one.Call(ctx, "n1", "echo", append(largest, 'x')); err == nil {
			t.Error("a question above the limit was sent")
		}
		if _, err := one.Call(ctx, "n9", "echo", nil); !errors.Is(err, ErrGone) {
			t.Errorf("call of nobody: got %v, want ErrGone", err)
		}
		if _, err := one.Call(ctx, "n1", "what", nil); !errors.Is(err, ErrKind) {
			t.Errorf("call of an unknown kind: got %v, want ErrKind", err)
		}
		if _, err := one.Call(ctx, "n.*", "echo", nil); !errors.Is(err, ErrNode) {
			t.Errorf("call of no node: got %v, want ErrNode", err)
		}
	})
}

// TestCallsBusy: a node answers MaxCalls at a time, says so to the next, and a
// call without an answer ends with CallTimeout.
func TestCallsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1)
		defer b.close()
		slow := &running{wire: &wire{Store: b.base.Join()}, ended: make(chan error, 1)}
		f, err := New(Config{Store: slow.wire, Self: Node{ID: "slow"}})
		if err != nil {
			t.Fatal(err)
		}
		f.Handle("sleep", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		slow.Fleet = f
		ctx, stop := context.WithCancel(t.Context())
		slow.stop = stop
		go func() { slow.ended <- f.Run(ctx) }()
		<-f.Ready()
		b.nodes = append(b.nodes, slow)
		results := make(chan error, MaxCalls)
		for range MaxCalls {
			go func() {
				_, err := b.nodes[0].Call(t.Context(), "slow", "sleep", nil)
				results <- err
			}()
		}
		synctest.Wait()
		if _, err := b.nodes[0].Call(t.Context(), "slow", "sleep", nil); !errors.Is(err, ErrBusy) {
			t.Errorf("one call too many: got %v, want ErrBusy", err)
		}
		began := time.Now()
		for range MaxCalls {
			if err := <-results; err == nil {
				t.Error("a sleeping node answered")
			}
		}
		if took := time.Since(began); took > CallTimeout {
			t.Errorf("the calls ended after %v, want at most %v", took, CallTimeout)
		}
	})
}

func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2)
		defer b.close()
		var got atomic.Value
		listener := &running{wire: &wire{Store: b.base.Join()}, ended: make(chan error, 1)}
		f, err := New(Config{Store: listener.wire, Self: Node{ID: "ear"}})
		if err != nil {
			t.Fatal(err)
		}
		f.Handle("news", func(_ context.Context, from string, body []byte) ([]byte, error) {
			got.Store(from + " " + string(body))
			return nil, nil
		})
		listener.Fleet = f
		ctx, stop := context.WithCancel(t.Context())
		listener.stop = stop
		go func() { listener.ended <- f.Run(ctx) }()
		<-f.Ready()
		b.nodes = append(b.nodes, listener)
		for _, say := range []func() error{
			func() error { return b.nodes[1].Tell("news", []byte("all")) },
			func() error { return b.nodes[0].Send("ear", "news", []byte("you")) },
		} {
			if err := say(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			t.Log(got.Load())
		}
		if got.Load() != "n0 you" {
			t.Errorf("heard %v", got.Load())
		}
		if err := f.Tell("news", []byte("myself")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got.Load() == "ear myself" {
			t.Error("a node told itself")
		}
	})
}

// TestFull: a flood of ids does not take memory without end.
func TestFull(t *testing.T) {
	f, err := New(Config{Store: memstore.New(), Self: Node{ID: "n0"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * MaxNodes {
		f.hear(fmt.Appendf(nil, `{"v":1,"word":"alive","id":"x%d"}`, i))
	}
	if len(f.members) != MaxNodes-1 {
		t.Errorf("%d members, want %d", len(f.members), MaxNodes-1)
	}
}

func TestNew(t *testing.T) {
	for _, n := range []Node{{}, {ID: "A"}, {ID: "a.b"}, {ID: "a", Certificate: make([]byte, MaxCertificateBytes+1)},
		{ID: "a", Address: make([]netip.AddrPort, MaxAddresses+1)}} {
		if _, err := New(Config{Store: memstore.New(), Self: n}); err == nil {
			t.Errorf("a node %.60v was taken", n)
		}
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func FuzzBeat(f *testing.F) {
	f.Add([]byte(`{"v":1,"word":"alive","id":"n1","start":7,"address":["192.0.2.1:7443"],"certificate":"AQI="}`))
	f.Add([]byte(`{"v":1,"word":"gone","id":"n1","draining":true}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, n, err := decode(data)
		if err == nil && (n.check() != nil || w.Version != beatVersion || len(data) > maxBeatBytes) {
			t.Errorf("%q became %+v", data, n)
		}
	})
}

func FuzzCall(f *testing.F) {
	f.Add([]byte("\x02n1body"))
	f.Add([]byte("\x00"))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if from, body, err := readQuestion(data); err == nil {
			if again := append(append([]byte{byte(len(from))}, from...), body...); !bytes.Equal(again, data) {
				t.Errorf("%q became %q", data, again)
			}
		}
		if body, err := readAnswer(data); err == nil && (data[0] != codeOK || !bytes.Equal(body, data[1:])) {
			t.Errorf("%q was taken for an answer", data)
		}
	})
}

func BenchmarkLocate(b *testing.B) {
	for _, n := range []int{1, 3, 10, 100} {
		var nodes []Node
		for i := range n {
			nodes = append(nodes, Node{ID: fmt.Sprintf("node-%d", i)})
		}
		v := seen(nodes)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				v.locate(uint16(i))
			}
		})
	}
}
