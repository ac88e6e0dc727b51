package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyholed/keyhole/basestation"
	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/client"
)

// demoAttach is how long the device of the demo may take to find its basestation.
const demoAttach = 10 * time.Second

// startBase runs a basestation in this process; ended is closed when it has ended.
func (d *demo) startBase(ctx context.Context) (ended <-chan struct{}, err error) {
	keeps := memstore.New()
	d.base, err = basestation.New(basestation.Config{
		Listen: []string{"127.0.0.1:0"}, Data: filepath.Join(d.dir, "basestation"), Store: keeps, Relay: &relay.Config{},
	})
	if err != nil {
		return nil, fmt.Errorf("basestation: %w", err)
	}
	over := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		defer close(over)
		result <- d.base.Run(ctx)
		_ = keeps.Close()
	}()
	select {
	case <-d.base.Ready():
	case err := <-result:
		return nil, fmt.Errorf("basestation: %w", err)
	}
	d.say("A basestation introduces and relays. It can neither read nor let anybody in.")
	return over, nil
}

// baseConfig is the device's configuration of its basestation.
func (d *demo) baseConfig() string {
	if d.base == nil {
		return ""
	}
	return fmt.Sprintf("[basestation]\naddress = %q\nkey = [\"%s\"]\n", d.base.Address(), strings.Join(d.base.Keys(), `", "`))
}

// dial connects as one who is away, or at home where there is no basestation.
func (d *demo) dial(ctx context.Context, device client.Device) (err error) {
	o := client.DialOptions{Tunnels: true, Find: -1, NoBasestation: d.noBasestation, RelayOnly: d.relayOnly}
	if d.noBasestation {
		d.conn, err = d.home.DialDevice(ctx, device, o)
		return err
	}
	if err := d.attached(ctx); err != nil {
		return err
	}
	device.Addresses = nil // they mean something else where the laptop is now
	began := time.Now()
	if d.conn, err = d.home.DialDevice(ctx, device, o); err != nil {
		return err
	}
	d.say("Away: the basestation introduced the two, who met in %.0f ms: %s.", time.Since(began).Seconds()*1000, pathWords(d.conn))
	return nil
}

// attached waits until the basestation knows the device.
func (d *demo) attached(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoAttach)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if n, err := d.base.Devices(ctx); err != nil {
			return err
		} else if n > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the device does not attach: %+v", d.device.Status().Basestation)
		}
	}
}

// tellRelay says what passed the relay, if anything did.
func (d *demo) tellRelay() {
	if d.base == nil {
		return
	}
	c := d.base.RelayCounters()
	if c.Joined == 0 {
		d.say("Nothing of it passed the relay.")
		return
	}
	d.say("The relay carried %d bytes of it, which it could not read, in %s.", c.Bytes, count(int(c.Joined), "connection"))
}
