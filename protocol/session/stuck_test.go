package session

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Uploads that the device does not read stop neither other uploads nor
// requests of the same session.
func TestStuckUploadsStopNobodyElse(t *testing.T) {
	for _, path := range []Path{PathTCP, PathQUIC} {
		t.Run(string(path), func(t *testing.T) {
			d := startDevice(t, Limits{}, nil)
			c := d.dial(t, paired(t, d), path, -1)
			for range 8 {
				stuck, err := c.Connect(t.Context(), "zeros", false) // writes, never reads
				if err != nil {
					t.Fatal(err)
				}
				defer stuck.Close()
				if err := stuck.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				if n, err := stuck.Write(make([]byte, 8<<20)); err == nil {
					t.Errorf("%d bytes went where nobody reads", n)
				}
			}
			other, err := c.Connect(t.Context(), "echo", false)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if err := other.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Write([]byte("still here")); err != nil {
				t.Fatal(err)
			}
			if n, err := other.Read(make([]byte, 20)); n == 0 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
}

// The 257th tunnel in a QUIC session is refused clearly, not kept waiting.
func TestFullQUICSessionSaysSo(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	c := d.dial(t, paired(t, d), PathQUIC, -1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range maxStreams {
		s, err := c.Connect(ctx, "echo", false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if _, err := c.Connect(ctx, "echo", false); !errors.Is(err, ErrBusy) {
		t.Errorf("the next one: %v", err)
	}
}

// paired is a key that the device knows.
func paired(t *testing.T, d *device) *identity.Key {
	t.Helper()
	k := newKey(t)
	d.pair(k, true)
	return k
}

// A client whose pool ran dry keeps more connections warm from then on.
func TestPoolGrowsWhereItRanDry(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	c := d.dial(t, paired(t, d), PathTCP, 1)
	warmed(t, c, true)
	for range 2 {
		s, err := c.Connect(t.Context(), "echo", true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	testnet.Until(t, "eight are warm", func() bool {
		c.warm.mu.Lock()
		defer c.warm.mu.Unlock()
		return len(c.warm.conns) == manyWarm
	})
}

// Through a relay it keeps as few as it asked for.
func TestPoolDoesNotGrowThroughARelay(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	c := overConns(t, d, paired(t, d), ViaRelay, 1)
	warmed(t, c, true)
	for range 2 {
		s, err := c.Connect(t.Context(), "echo", true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	c.warm.mu.Lock()
	defer c.warm.mu.Unlock()
	if got := c.warm.wanted(); !c.warm.short || got != 1 {
		t.Errorf("ran dry: %v, keeps %d warm", c.warm.short, got)
	}
}
