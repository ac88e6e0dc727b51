package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

func TestTwoLegsAreOneTunnel(t *testing.T) {
	w := newWorld(t, Config{})
	client, device := w.joined(camera)

	// Both directions at once, more than any buffer holds.
	data := make([]byte, 8<<20)
	rand.Read(data)
	var all sync.WaitGroup
	for _, ends := range [][2]interface {
		io.ReadWriter
		CloseWrite() error
	}{{client, device}, {device, client}} {
		all.Go(func() {
			ends[0].Write(data)
			ends[0].CloseWrite()
		})
		all.Go(func() {
			if got, err := io.ReadAll(ends[1]); err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, %v; want the %d sent", len(got), err, len(data))
			}
		})
	}
	all.Wait()
	want := int64(len(data) + len("hello"))
	if u := w.use(); u.Up != want || u.Down != want || u.Why != WhyDone || u.Who != camera || u.ID != 1 {
		t.Errorf("reported %+v, want %d both ways, %s", u, want, WhyDone)
	}
	if c := w.Counters(); c.Bytes != 2*want || c.Joined != 1 || c.Tunnels != 0 {
		t.Errorf("counted %+v", c)
	}
}

// What came right behind the ticket belongs to the peer, to the byte.
func TestBytesBehindThePrefaceBelongToThePeer(t *testing.T) {
	w := newWorld(t, Config{})
	ct, dt := w.pair(camera)
	client := w.send(append(preface(ct), "first bytes of the client"...))
	device := w.send(append(preface(dt), "first bytes of the device"...))
	if err := passes(io.Discard, device, "first bytes of the client"); err != nil {
		t.Error(err)
	}
	if err := passes(io.Discard, client, "first bytes of the device"); err != nil {
		t.Error(err)
	}
}

func TestOneSideMayBeDoneBeforeTheOther(t *testing.T) {
	w := newWorld(t, Config{})
	client, device := w.joined(camera)
	client.CloseWrite()
	if n, err := device.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("the device reads %d, %v; want the end", n, err)
	}
	if err := passes(device, client, "an answer after the question's end"); err != nil {
		t.Error(err)
	}
	device.Close()
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the client reads %d, %v; want the end", n, err)
	}
	if u := w.use(); u.Why != WhyDone {
		t.Errorf("ended by %q", u.Why)
	}
}

func TestResetStaysAReset(t *testing.T) {
	w := newWorld(t, Config{})
	client, device := w.joined(camera)
	client.SetLinger(0)
	client.Close()
	if _, err := device.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the device reads %v; want a reset, for the data did not end", err)
	}
	if u := w.use(); u.Why != WhyReset {
		t.Errorf("ended by %q", u.Why)
	}
}

func TestFirstLegIsTold(t *testing.T) {
	w := newWorld(t, Config{})
	told := make(chan string, 4)
	ct, dt, err := w.Pair(camera, time.Minute, func() { told <- "client is here" })
	if err != nil {
		t.Fatal(err)
	}
	client := w.dial(ct)
	<-told
	w.carries(client, w.dial(dt))

	ct, dt, _ = w.Pair(camera, time.Minute, func() { told <- "told for the device's leg" })
	device := w.dial(dt)
	w.waits(1)
	w.carries(w.dial(ct), device)
	if len(told) > 0 {
		t.Error(<-told)
	}
}

func TestLiveShowsBytesSoFar(t *testing.T) {
	w := newWorld(t, Config{})
	client, device := w.joined(camera)
	if err := passes(client, device, "12345678"); err != nil {
		t.Fatal(err)
	}
	live := w.Live()
	if len(live) != 1 || live[0].Up != 13 || live[0].Down != 5 || live[0].Who != camera || live[0].Why != "" {
		t.Errorf("live: %+v", live)
	}
}

func TestCloseCutsAndDrainDoesNot(t *testing.T) {
	w := newWorld(t, Config{})
	client, device := w.joined(camera)
	ct, dt := w.pair(camera)

	ctx, stop := context.WithCancel(t.Context())
	drained := make(chan error)
	go func() { drained <- w.Drain(ctx) }()
	for {
		_, _, err := w.Pair(Who{Device: "another"}, time.Minute, nil)
		if err == ErrClosed {
			break
		}
		if err != nil && err != ErrBusy {
			t.Fatalf("Pair while draining: %v", err)
		}
	}
	// What was promised is kept.
	w.carries(w.dial(ct), w.dial(dt))
	w.carries(client, device)
	stop()
	if err := <-drained; !errors.Is(err, context.Canceled) {
		t.Errorf("Drain = %v", err)
	}
	w.Close()
	if _, err := client.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("after Close the client reads %v, want a reset", err)
	}
	for range 2 {
		if u := w.use(); u.Why != WhyClosed {
			t.Errorf("ended by %q", u.Why)
		}
	}
	if err := w.Drain(t.Context()); err != nil {
		t.Errorf("Drain of nothing = %v", err)
	}
	w.isClosed("leg after Close", w.dial(ct))
	w.Close()
}

func TestDrainEndsWithTheLastTunnel(t *testing.T) {
	w := newWorld(t, Config{})
	client, device := w.joined(camera)
	for len(w.Live()) == 1 {
		client.Close()
		device.Close()
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
