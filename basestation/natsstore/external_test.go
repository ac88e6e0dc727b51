package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/basestation/store/storetest"
	"github.com/keyholed/keyhole/internal/testnats"
	"github.com/keyholed/keyhole/internal/testnet"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testnats.Clean()
	os.Exit(code)
}

func external(t *testing.T, c natsstore.Config) *natsstore.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), storetest.Patience)
	defer cancel()
	c.Log = words(t)
	s, err := natsstore.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// conformance runs the suite against a cluster: each test is a fleet of its own.
func conformance(t *testing.T, url string, replicas int) {
	number := 0
	storetest.Run(t, func(t *testing.T) func() store.Store {
		before := goleak.IgnoreCurrent()
		t.Cleanup(func() { goleak.VerifyNone(t, before) })
		number++
		name := fmt.Sprintf("fleet%d", number)
		return func() store.Store {
			return external(t, natsstore.Config{URL: url, Name: name, Replicas: replicas})
		}
	})
}

func TestExternal(t *testing.T) {
	conformance(t, testnats.Start(t, 1, nil).URL(), 1)
}

func TestExternalCluster(t *testing.T) {
	conformance(t, testnats.Start(t, 3, nil).URL(), 0)
}

// TestForeignBucket: a bucket that somebody has made before, without batches, is
// taken as it is.
func TestForeignBucket(t *testing.T) {
	t.Parallel()
	url := testnats.Start(t, 1, nil).URL()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "keyhole"})
	if err != nil {
		t.Fatal(err)
	}
	s := external(t, natsstore.Config{URL: url})
	defer s.Close()
	for i := range 100 {
		if err := s.PutSoon(fmt.Sprintf("k/%d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	entry, err := bucket.Get(t.Context(), "k.99") // as `nats kv` does
	if err != nil || string(entry.Value()) != "v" {
		t.Errorf("read as a bucket: %v, %v", entry, err)
	}
	if _, err := bucket.Put(t.Context(), "k.100", []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	if value, _, err := s.Get(t.Context(), "k/100"); err != nil || string(value) != "theirs" {
		t.Errorf("written as a bucket: %q, %v", value, err)
	}
	if err := s.Delete(t.Context(), "k/100", 0); err != nil {
		t.Errorf("delete in a bucket without expiry: %v", err)
	}
}

// TestNodeKilled has three basestation nodes write, watch and consume while one
// NATS server after the other is killed and started again. Nothing that was
// acknowledged is lost, and the longest time without an acknowledged write is
// told.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	kills := 1
	if os.Getenv("KEYHOLE_FULL") != "" {
		kills = 5
	}
	cluster := testnats.Start(t, 3, nil)
	w := newWorkload(t, cluster.URL())
	w.run(20)
	for range kills {
		leader := cluster.Leader("KV_keyhole")
		leader.Kill()
		w.run(20)
		leader.Restart()
		cluster.Settle()
		w.run(20)
	}
	w.finish()
}

// TestOutage: the only server is killed, comes back a moment later, and every
// handle goes on by itself; what it refused meanwhile it refused with words.
func TestOutage(t *testing.T) {
	t.Parallel()
	cluster := testnats.Start(t, 1, nil)
	w := newWorkload(t, cluster.URL())
	w.run(10)
	const outages = 1
	server := cluster.Servers[0]
	for range outages {
		server.Kill()
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := w.nodes[0].Put(short, "outage", nil); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("put without a server: %v", err)
		}
		if err := w.nodes[0].Publish("beat", nil); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("publish without a server: got %v, want ErrUnavailable", err)
		}
		if err := w.nodes[0].Check(short); err == nil {
			t.Error("check without a server: nil")
		}
		cancel()
		server.Restart()
		for _, s := range w.nodes { // nobody need write for a node to be well again
			w.await(t.Context(), "the store is well again", func() bool { return s.Check(t.Context()) == nil })
		}
		w.run(10)
	}
	w.finish()

	// A close without a server is bounded, and tells what is lost.
	server.Kill()
	if err := w.nodes[0].PutSoon("lost", nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err := w.nodes[0].Close()
	if took := time.Since(began); err == nil || took > 2*store.CloseTimeout {
		t.Errorf("close without a server: %v after %v", err, took)
	}
}

// TestServerHangs: a server that says nothing and closes nothing is worse than a
// dead one. It is left for another within a few missed signs of life.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	cluster := testnats.Start(t, 3, nil)
	w := newWorkload(t, cluster.URL())
	w.run(20)
	leader := cluster.Leader("KV_keyhole")
	leader.Pause()
	w.run(20)
	leader.Resume()
	w.run(20)
	w.finish()
}

// workload is three nodes of one fleet at work.
type workload struct {
	t        *testing.T
	nodes    []*natsstore.Store
	rounds   int
	longest  time.Duration
	refused  int
	watched  sync.Map // key -> value last told
	consumed sync.Map // log entry -> true
	stop     context.CancelFunc
	running  sync.WaitGroup
	logged   []string
}

func newWorkload(t *testing.T, url string) *workload {
	ctx, stop := context.WithCancel(t.Context())
	w := &workload{t: t, stop: stop}
	t.Cleanup(func() { w.stop(); w.running.Wait() })
	for range 3 {
		s := external(t, natsstore.Config{URL: url})
		w.nodes = append(w.nodes, s)
		t.Cleanup(func() { s.Close() })
		w.running.Go(func() {
			_ = s.Consume(ctx, "worker", "e.>", func(_ string, data []byte) error {
				w.consumed.Store(string(data), true)
				return nil
			})
		})
	}
	w.running.Go(func() {
		_ = w.nodes[1].Watch(ctx, "", func(c store.Change) { w.watched.Store(c.Key, string(c.Value)) })
	})
	return w
}

// run does rounds of writes: each must be acknowledged in the end, as a caller
// would try it again.
func (w *workload) run(rounds int) {
	w.t.Helper()
	for range rounds {
		node := w.nodes[w.rounds%len(w.nodes)]
		text := fmt.Sprint(w.rounds)
		w.insist("put", func(ctx context.Context) error {
			_, err := node.Put(ctx, "put/"+text, []byte(text))
			return err
		})
		w.insist("create", func(ctx context.Context) error {
			_, err := node.Create(ctx, "create/"+text, []byte(text))
			if errors.Is(err, store.ErrExists) && w.refused > 0 {
				return nil // it had happened, as ErrUnavailable warns
			}
			return err
		})
		w.insist("log", func(ctx context.Context) error { return node.Log(ctx, "e.x", []byte(text)) })
		if err := node.PutSoon("soon/"+text, []byte(text)); err != nil {
			w.t.Fatal(err)
		}
		w.logged = append(w.logged, text)
		w.rounds++
	}
}

func (w *workload) insist(what string, try func(context.Context) error) {
	w.t.Helper()
	began := time.Now()
	for {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		err := try(ctx)
		cancel()
		if err == nil {
			w.longest = max(w.longest, time.Since(began))
			return
		}
		if time.Since(began) > 30*time.Second {
			w.t.Fatalf("%s: %v", what, err)
		}
		w.refused++
	}
}

// finish checks that nothing acknowledged is missing.
func (w *workload) finish() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), storetest.Patience)
	defer cancel()
	for i, s := range w.nodes {
		if err := s.Flush(ctx); err != nil {
			w.t.Fatalf("node %d: flush: %v", i, err)
		}
	}
	for _, text := range w.logged {
		for _, kind := range []string{"put/", "create/", "soon/"} {
			value, _, err := w.nodes[2].Get(ctx, kind+text)
			if err != nil || string(value) != text {
				w.t.Errorf("%s%s: got %q, %v", kind, text, value, err)
			}
			w.await(ctx, "watch of "+kind+text, func() bool { v, _ := w.watched.Load(kind + text); return v == text })
		}
		w.await(ctx, "log entry "+text, func() bool { _, ok := w.consumed.Load(text); return ok })
	}
	w.t.Logf("%d writes of each kind, none lost; the longest wait for one was %v, %d were refused and tried again",
		w.rounds, w.longest.Round(time.Millisecond), w.refused)
}

func (w *workload) await(ctx context.Context, what string, ok func() bool) {
	w.t.Helper()
	testnet.Until(w.t, what, ok)
}
