package main

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// TestMain lets the test program be the basestation, as the bench itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-role" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// A few simulated devices do what a million do: attach, stay, are found.
func TestFleet(t *testing.T) {
	st, err := start(&settings{store: "mem"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.stop()
	f, err := newFleet(st, 4, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	const devices = 50
	if err := f.grow(t.Context(), devices, 3, 0); err != nil {
		t.Fatal(err)
	}
	if got := f.attached.Load(); got != devices {
		t.Fatalf("%d attached", got)
	}
	// Each asks to be answered at once, and is.
	for _, p := range f.ports {
		p.mu.Lock()
		for d := range p.devices {
			ping, err := p.devices[d].Ping(nil, 0, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			p.send(p.node, ping)
		}
		p.flush()
		p.mu.Unlock()
	}
	testnet.Eventually(t, "all answer", func() error {
		if n := f.pongs.Load(); n < devices {
			return fmt.Errorf("%d of %d answered", n, devices)
		}
		return nil
	})
	d, err := f.newLine(net.IPv4(127, 1, 0, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.heard = d.agree
	if err := d.run(func() bool { return d.link.State() == attach.StateAttached }); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- d.run(func() bool { return false }) }()
	if _, err := f.introduce(net.IPv4(127, 2, 0, 1), d.key.ID()); err != nil {
		t.Error(err)
	}
	d.udp.Close()
	<-done
	if now, peak := st.memory(); now == 0 || peak < now || st.cpu() <= 0 {
		t.Errorf("memory %d of %d KiB, CPU %v", now, peak, st.cpu())
	}
}
