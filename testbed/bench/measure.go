package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// result is one turn of one contender.
type result struct {
	One, Eight transfer
	Connect50  time.Duration // connect and one byte, median
	Connect99  time.Duration
	Rate       float64       // the same a second, 50 at once
	Echo       time.Duration // 64 bytes there and back, median
}

// transfer is bulk from the device to the client.
type transfer struct {
	MBs            float64 // 10^6 bytes a second, all tunnels together
	Device, Client float64 // CPU seconds for 10^9 bytes
	Relay          float64 `json:",omitempty"` // the same of what is between
}

// holding is what the device side, or the relay, holds for idle tunnels.
type holding struct {
	Tunnels   int
	PerTunnel float64 // KiB of resident memory above that without tunnels
}

// firstUse is how many tunnels have come and gone before memory is weighed.
const firstUse = 10

// patience ends what hangs; it is no measure.
const patience = 10 * time.Second

func (b *bench) turn(ctx context.Context, c *contender) error {
	var r result
	var err error
	if b.measures("bulk") {
		if r.One, err = b.bulkOf(ctx, c, 1); err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
		if r.Eight, err = b.bulkOf(ctx, c, 8); err != nil {
			return fmt.Errorf("bulk of eight: %w", err)
		}
	}
	if b.measures("connect") {
		if r.Connect50, r.Connect99, err = b.connects1(ctx, c); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	if b.measures("storm") {
		if r.Rate, err = b.stormOf(c); err != nil {
			return fmt.Errorf("50 at once: %w", err)
		}
	}
	if b.measures("echo") {
		if r.Echo, err = b.echo(c); err != nil {
			return fmt.Errorf("echo: %w", err)
		}
	}
	c.results = append(c.results, r)
	return ctx.Err()
}

// dial opens one tunnel to the echo and waits for its first byte.
func (c *contender) dial() (net.Conn, error) {
	conn, err := net.Dial("tcp", c.local)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	one := []byte{'e'}
	if _, err = conn.Write(one); err == nil {
		_, err = io.ReadFull(conn, one)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// pause lets the client side's warm connections come back, as they do between
// two uses by a person.
func (b *bench) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// bulkOf reads from n tunnels at once, each opened beforehand.
func (b *bench) bulkOf(ctx context.Context, c *contender, n int) (transfer, error) {
	b.pause(ctx, time.Second/2)
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := net.Dial("tcp", c.local)
		if err != nil {
			return transfer{}, err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte{'b'}); err != nil {
			return transfer{}, err
		}
		if _, err := io.ReadFull(conn, make([]byte, 4<<20)); err != nil { // past slow start
			return transfer{}, err
		}
		conns[i] = conn
	}
	device, client, relay := c.device.cpu(), c.client.cpu(), c.relay.cpu()
	begin := time.Now()
	end := begin.Add(b.bulk)
	counts, errs := make([]int64, n), make([]error, n)
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() {
			buf := make([]byte, 256<<10)
			conn.SetDeadline(end)
			for {
				k, err := conn.Read(buf)
				counts[i] += int64(k)
				if err != nil {
					if !isTimeout(err) {
						errs[i] = err
					}
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	device, client, relay = c.device.cpu()-device, c.client.cpu()-client, c.relay.cpu()-relay
	var total float64
	for _, k := range counts {
		total += float64(k)
	}
	perGB := func(cpu time.Duration) float64 { return cpu.Seconds() / total * 1e9 }
	return transfer{total / 1e6 / took.Seconds(), perGB(device), perGB(client), perGB(relay)}, errors.Join(errs...)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// connects1 opens tunnels one after the other, as a player that changes
// channels does: with a breath between them.
func (b *bench) connects1(ctx context.Context, c *contender) (p50, p99 time.Duration, err error) {
	b.pause(ctx, time.Second/2)
	times := make([]time.Duration, b.connects)
	for i := range times {
		begin := time.Now()
		conn, err := c.dial()
		if err != nil {
			return 0, 0, err
		}
		times[i] = time.Since(begin)
		conn.Close()
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)*99/100], nil
}

// stormOf opens and closes 50 at once for a while.
func (b *bench) stormOf(c *contender) (float64, error) {
	begin := time.Now()
	counts, errs := make([]int, 50), make([]error, 50)
	var all sync.WaitGroup
	for i := range counts {
		all.Go(func() {
			for time.Since(begin) < b.storm {
				conn, err := c.dial()
				if err != nil {
					errs[i] = err
					return
				}
				conn.Close()
				counts[i]++
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / took.Seconds(), errors.Join(errs...)
}

func (b *bench) echo(c *contender) (time.Duration, error) {
	conn, err := c.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	times := make([]time.Duration, b.echoes)
	buf := make([]byte, 64)
	for i := range times {
		begin := time.Now()
		if _, err := conn.Write(buf); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			return 0, err
		}
		times[i] = time.Since(begin)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// memory holds idle tunnels, each of which has carried a byte, and weighs the
// device side. What was used before is given back first where that can be
// asked for.
func (b *bench) memory(ctx context.Context, c *contender) error {
	var held []net.Conn
	defer func() {
		for _, conn := range held {
			conn.Close()
		}
	}()
	// What the first use of a program costs once (threads, tables, code) is not
	// what a tunnel costs.
	for range firstUse {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Close()
	}
	held = nil
	b.pause(ctx, time.Second)
	base := b.weigh(ctx, c)
	for _, n := range b.idle {
		for len(held) < n {
			conn, err := c.dial()
			if err != nil { // a session carries no more streams: that is a result too
				b.missing = append(b.missing, fmt.Sprintf("%s with %d idle tunnels: it takes %d", c.name, n, len(held)))
				return ctx.Err()
			}
			held = append(held, conn)
		}
		c.held = append(c.held, holding{n, float64(b.weigh(ctx, c)-base) / float64(n)})
	}
	return nil
}

// weigh is the anonymous memory of the device side, or of the relay, when it has come to rest.
func (b *bench) weigh(ctx context.Context, c *contender) int {
	p := c.weighed()
	if p.stop != nil { // one of our roles: it collects its garbage
		p.cmd.Process.Signal(syscall.SIGUSR1)
	}
	last := -1
	for range 20 {
		b.pause(ctx, time.Second/2)
		_, now := p.resident()
		if d := now - last; d > -64 && d < 64 {
			return now
		}
		last = now
	}
	return last
}
