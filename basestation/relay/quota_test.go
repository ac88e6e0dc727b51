package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// flood writes until it is stopped.
func flood(conn net.Conn) {
	chunk := make([]byte, 100_000)
	for {
		if _, err := conn.Write(chunk); err != nil {
			return
		}
	}
}

func TestQuotaOfBytesIsExact(t *testing.T) {
	const quota = 3_000_001
	for _, c := range []struct {
		what   string
		limits Limits
		others Who // on the same account as camera
	}{
		{"device", Limits{PerDevice: Quota{Bytes: quota}}, camera},
		{"vendor", Limits{PerVendor: Quota{Bytes: quota}}, Who{Device: "gate", Vendor: camera.Vendor}},
		{"both", Limits{PerDevice: Quota{Bytes: 2 * quota}, PerVendor: Quota{Bytes: quota}}, camera},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t, Config{Limits: c.limits})
			// Four flows at once share it.
			var ends []net.Conn
			for _, who := range []Who{camera, c.others} {
				client, device := w.joined(who)
				ends = append(ends, client, device)
			}
			var all sync.WaitGroup
			for _, end := range ends {
				all.Go(func() { flood(end) })
				all.Go(func() { io.Copy(io.Discard, end) })
			}
			var total int64
			for range 2 {
				u := w.use()
				total += u.Up + u.Down
				if u.Why != WhyQuota {
					t.Errorf("ended by %q", u.Why)
				}
			}
			all.Wait()
			if total != quota {
				t.Errorf("%d bytes were relayed, want %d", total, quota)
			}
			if _, _, err := w.Pair(camera, time.Minute, nil); !errors.Is(err, ErrQuota) {
				t.Errorf("another pair: %v", err)
			}
			if _, _, err := w.Pair(Who{Device: "other", Vendor: "other"}, time.Minute, nil); err != nil {
				t.Errorf("a pair of another vendor: %v", err)
			}
		})
	}
}

func TestQuotaBeginsAnew(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{PerDevice: Quota{Bytes: 1000, Every: time.Hour}}})
	spend := func() {
		t.Helper()
		client, device := w.joined(camera)
		go flood(client)
		go io.Copy(io.Discard, device)
		if u := w.use(); u.Up+u.Down != 1000 || u.Why != WhyQuota {
			t.Fatalf("%+v", u)
		}
	}
	spend()
	if _, _, err := w.Pair(camera, time.Minute, nil); !errors.Is(err, ErrQuota) {
		t.Fatalf("another pair within the hour: %v", err)
	}
	w.mu.Lock()
	w.born = w.born.Add(-time.Hour) // an hour passes
	w.mu.Unlock()
	spend()
}

// What a leg sent before its tunnel was refused costs nobody anything.
func TestQuotaOfTunnels(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{PerVendor: Quota{Tunnels: 2}}})
	ct, dt := w.pair(camera)
	w.joined(camera)
	client, device := w.joined(Who{Device: "gate", Vendor: camera.Vendor})
	if _, _, err := w.Pair(camera, time.Minute, nil); !errors.Is(err, ErrQuota) {
		t.Errorf("a third pair: %v", err)
	}
	refused := []net.Conn{w.dial(ct), w.dial(dt)}
	w.isClosed("a third tunnel", refused[0])
	w.isClosed("a third tunnel", refused[1])
	if u := w.use(); u.Why != WhyQuota {
		t.Errorf("%+v", u)
	}
	client.Close()
	device.Close()
	w.use()
	w.joined(camera)
}

func TestTimeOfATunnel(t *testing.T) {
	w := newWorld(t, Config{Quota: func(who Who) (device, vendor Quota) {
		return Quota{Time: time.Hour}, Quota{Time: time.Second}
	}})
	// One is busy, one stalls, one is silent.
	client, device := w.joined(camera)
	go flood(client)
	go io.Copy(io.Discard, device)
	stalled, _ := w.joined(camera)
	go flood(stalled)
	w.joined(camera)
	for range 3 {
		if u := w.use(); u.Why != WhyTime || u.Duration < time.Second {
			t.Errorf("%+v", u)
		}
	}
}

func TestIdleTunnelsEnd(t *testing.T) {
	w := newWorld(t, Config{}, func(x *times) { x.idle = 2 * time.Second })
	client, device := w.joined(camera)
	joined := w.now()
	// A byte in one direction is a sign of life for both.
	var active time.Duration
	for active < joined+3*time.Second {
		active = w.now()
		if err := passes(client, device, "."); err != nil {
			t.Fatal(err)
		}
	}
	if u := w.use(); u.Why != WhyIdle || w.now()-active < 2*time.Second {
		t.Errorf("%+v", u)
	}
}

func TestHalfClosedTunnelsEndSooner(t *testing.T) {
	w := newWorld(t, Config{}, func(x *times) { x.halfIdle = 50 * time.Millisecond })
	client, device := w.joined(camera)
	client.CloseWrite()
	io.ReadAll(device)
	if u := w.use(); u.Why != WhyIdle {
		t.Errorf("%+v", u)
	}
}

func TestStalledTunnelsEnd(t *testing.T) {
	w := newWorld(t, Config{}, func(x *times) { x.stall = 200 * time.Millisecond })
	client, _ := w.joined(camera)
	go flood(client)
	if u := w.use(); u.Why != WhyStalled {
		t.Errorf("%+v", u)
	}
}

// An account is forgotten when there is nothing to remember.
func TestAccountsAreForgotten(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{PerDevice: Quota{Bytes: 1000, Every: time.Hour}, PerVendor: Quota{Tunnels: 9}}})
	client, device := w.joined(camera)
	client.Close()
	device.Close()
	w.use()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.accounts.by) != 1 {
		t.Errorf("%d accounts, want that of the device only", len(w.accounts.by))
	}
	w.accounts.forget(w.now() + 2*time.Hour)
	if len(w.accounts.by) != 0 {
		t.Error("the device's account outlives its period")
	}
}
