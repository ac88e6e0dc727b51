package relay

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// The copier stands in where the kernel cannot move bytes: it must do the same.
func TestCopier(t *testing.T) {
	for _, c := range []struct {
		what  string
		mover func(*flow) mover
	}{
		{"readiness", func(f *flow) mover { return newCopier(f) }},
		{"blocking", func(f *flow) mover { return &copier{flow: f} }},
	} {
		t.Run(c.what, func(t *testing.T) {
			const quota = 4_000_000
			w := newWorld(t, Config{Limits: Limits{PerVendor: Quota{Bytes: quota}}}, func(x *times) { x.stall = 200 * time.Millisecond })
			w.mover = c.mover
			client, device := w.joined(Who{Device: "gate"})
			data := make([]byte, 1<<20)
			rand.Read(data)
			var all sync.WaitGroup
			all.Go(func() { client.Write(data); client.CloseWrite() })
			if got, err := io.ReadAll(device); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			all.Wait()
			w.carriesBack(device, client)
			if u := w.use(); u.Why != WhyDone || u.Up != int64(len(data)+5) {
				t.Errorf("%+v", u)
			}

			client, _ = w.joined(Who{Device: "stalls"})
			go flood(client)
			if u := w.use(); u.Why != WhyStalled {
				t.Errorf("%+v", u)
			}

			var ends []net.Conn
			for range 2 {
				client, device := w.joined(camera)
				ends = append(ends, client, device)
			}
			for _, end := range ends {
				all.Go(func() { flood(end) })
				all.Go(func() { io.Copy(io.Discard, end) })
			}
			var total int64
			for range 2 {
				u := w.use()
				total += u.Up + u.Down
			}
			if all.Wait(); total != quota {
				t.Errorf("%d bytes were relayed, want %d", total, quota)
			}
		})
	}
}

// carriesBack sends an answer after the question's end.
func (w *world) carriesBack(device, client *net.TCPConn) {
	w.t.Helper()
	if err := passes(device, client, "an answer"); err != nil {
		w.t.Error(err)
	}
	device.Close()
}
