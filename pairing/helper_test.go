package pairing

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// fingerprint n of a test: any distinct values will do.
func fingerprint(n byte) identity.Fingerprint {
	var f identity.Fingerprint
	for i := range f {
		f[i] = n
	}
	return f
}

var deviceKey = fingerprint(0xdd)

// A disk is a Counter with the bad habits of disks.
type disk struct {
	mu     sync.Mutex
	n      int
	stall  time.Duration // of each Store
	broken error         // of Load and Store
	stored []int
}

func (d *disk) Load() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n, d.broken
}

func (d *disk) Store(n int) error {
	time.Sleep(d.stall)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	d.n = n
	d.stored = append(d.stored, n)
	return nil
}

// A list is a Granter that keeps whom it was given.
type list struct {
	mu      sync.Mutex
	granted []Request
	refuse  error
	hold    chan struct{} // not nil: Grant waits for it or its context
}

func (l *list) Grant(ctx context.Context, r Request) (Granted, error) {
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
			return Granted{}, context.Cause(ctx)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return Granted{}, l.refuse
	}
	l.granted = append(l.granted, r)
	return Granted{User: r.User, Role: "viewer"}, nil
}

func (l *list) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.granted)
}

// A device is a Window with its surroundings.
type device struct {
	*Window
	disk *disk
	list *list
}

func newDevice(t testing.TB, change ...func(*Config)) *device {
	t.Helper()
	d := &device{disk: &disk{}, list: &list{}}
	c := Config{Modes: []string{"button", "code"}, Device: deviceKey, Granter: d.list, Counter: d.disk}
	for _, f := range change {
		f(&c)
	}
	var err error
	if d.Window, err = New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// reboot is the same device with another process.
func (d *device) reboot(t testing.TB) *device {
	t.Helper()
	d.Close()
	n := newDevice(t, func(c *Config) { c.Granter, c.Counter = d.list, d.disk })
	n.disk, n.list = d.disk, d.list
	return n
}

// A peer is a client on a session of its own.
type peer struct {
	caller Caller
	asker  *Asker
	check  Check
	reply  BeginReply
	reveal RevealRequest
}

func newPeer(n byte) *peer {
	exporter := make([]byte, ExporterBytes)
	exporter[0] = n
	return &peer{caller: Caller{
		Fingerprint: fingerprint(n), Exporter: exporter, Local: true, TCP: true,
		Source: netip.AddrFrom4([4]byte{192, 0, 2, n}),
	}}
}

// at is the same client from another address.
func (p *peer) at(source string) *peer {
	q := *p
	q.caller.Source = netip.MustParseAddr(source)
	return &q
}

func (p *peer) begin(d *device) (err error) {
	if p.asker, err = NewAsker(p.caller.Fingerprint, deviceKey, p.caller.Exporter); err != nil {
		return err
	}
	p.reply, err = d.Begin(context.Background(), p.caller, BeginRequest{
		Name: "laptop", User: "Alice", Commitment: p.asker.Commitment(),
	})
	if err != nil {
		return err
	}
	p.check, p.reveal, err = p.asker.Answer(p.reply)
	return err
}

// An answer comes when an exchange is over.
type answer struct {
	granted Granted
	err     error
}

// ask does an exchange up to the wait for the press.
func (p *peer) ask(ctx context.Context, d *device) <-chan answer {
	c := make(chan answer, 1)
	if err := p.begin(d); err != nil {
		c <- answer{err: err}
		return c
	}
	go func() {
		g, err := d.Reveal(ctx, p.caller, p.reveal)
		c <- answer{g, err}
	}()
	return c
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || (want == nil) != (got == nil) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func wantPress(t testing.TB, d *device, want Pressed) {
	t.Helper()
	if got := d.Press(); got != want {
		t.Fatalf("press: got %v, want %v", got, want)
	}
}
