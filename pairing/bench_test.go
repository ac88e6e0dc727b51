//go:build unix

package pairing

import (
	"syscall"
	"testing"
	"time"
)

// BenchmarkPairByCode is a whole pairing by the code on the display, both ends in
// one process: the device's stretching of the code, the client's, and the exchange.
// The disk is left out.
func BenchmarkPairByCode(b *testing.B) {
	p := newPeer(1)
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		d := newDevice(b, byCode)
		if d.Press() != PressOpened {
			b.Fatal("not open")
		}
		r, err := p.beginCode(d, d.State().Code)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.confirm(d, r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((processorTime(b)-before).Seconds()*1e3/float64(b.N), "ms-CPU/pairing")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
