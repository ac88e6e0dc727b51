package session

import (
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

// BenchmarkSocket compares what bulk data over QUIC costs on a socket that QUIC
// has to itself with one that carries other packets as well: throughput, and
// CPU of both ends for each 64 KiB.
func BenchmarkSocket(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(map[bool]string{false: "alone", true: "shared"}[shared], func(b *testing.B) {
			key := newKey(b)
			s := NewServer(Config{Key: key, Handler: http.HandlerFunc(testHandler)})
			udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			to := addrPort(udp.LocalAddr())
			device, own := NewSocket(udp), newSocket(b)
			if shared {
				var others others
				device.OnPacket(others.take)
				own.OnPacket(others.take)
			}
			var served sync.WaitGroup
			served.Go(func() { _ = s.ServeSocket(device) })
			b.Cleanup(func() {
				_ = s.Close()
				served.Wait()
				_ = device.Close()
			})
			c, err := DialSocket(b.Context(), own, to, DialConfig{Key: newKey(b), Pin: identity.PinFingerprint(key.Fingerprint())})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(c.Close)
			stream := open(b, c, "zeros", false)
			before := cpuTime()
			readMany(b, stream)
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}
