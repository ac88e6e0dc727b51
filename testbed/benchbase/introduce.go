package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	answerers = 64 // devices that answer introductions, each asked as often as the others
	askers    = 64 // addresses of clients, so that no source asks too often
)

// A line is a device or client with a socket and a goroutine of its own.
type line struct {
	fleet *fleet
	key   *identity.Key
	udp   *net.UDPConn
	link  *attach.Link
	heard func(k attach.Kind, body []byte)
	later []func() // what a callback wants done when it is over
}

func (f *fleet) newLine(ip net.IP, introduce *attach.Introduce) (*line, error) {
	key, err := identity.Generate()
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip})
	if err != nil {
		return nil, err
	}
	l := &line{fleet: f, key: key, udp: udp}
	l.link, err = attach.NewLink(attach.LinkConfig{
		Key: key, Roots: []attach.Root{f.station.root}, Basestations: []netip.AddrPort{f.station.address}, Introduce: introduce,
		Send:    func(to netip.AddrPort, b []byte) { udp.WriteToUDPAddrPort(b, to) },
		Message: func(k attach.Kind, body []byte) { l.heard(k, body) },
	})
	return l, err
}

// run keeps the line until done, which is asked after each packet, or until its
// socket is closed.
func (l *line) run(done func() bool) error {
	buf := make([]byte, attach.MaxPacket)
	for !done() {
		wake := l.link.Tick(l.fleet.now())
		l.udp.SetReadDeadline(l.fleet.began.Add(wake + time.Millisecond))
		n, err := l.udp.Read(buf)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
		case err != nil:
			return err
		default:
			l.link.Receive(l.fleet.now(), buf[:n])
			for _, do := range l.later {
				do()
			}
			l.later = nil
		}
	}
	return nil
}

// agree has a device say yes to everybody, as a device does to those it knows.
func (l *line) agree(k attach.Kind, body []byte) {
	var asked attach.Introduction
	if k != attach.KindIntroduction || attach.Decode(body, &asked) != nil {
		return
	}
	client, err := asked.Check(l.key.ID())
	if err != nil {
		return
	}
	here := []netip.AddrPort{l.udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	offer, err := attach.SignOffer(l.key, [32]byte(asked.Hash), l.key.ID(), client, attach.UDP, here)
	if err != nil {
		return
	}
	answer, err := attach.Encode(attach.Answer{Request: asked.Request, Offer: offer})
	if err == nil {
		l.later = append(l.later, func() { l.link.Send(l.fleet.now(), attach.KindAnswer, answer) })
	}
}

// introductions measures how long a client waits, from its first packet to the
// device's answer, while other devices attach.
func (f *fleet) introductions(ctx context.Context, s *settings) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	var devices []*line
	defer func() {
		for _, d := range devices {
			d.udp.Close()
		}
	}()
	for i := range answerers {
		d, err := f.newLine(net.IPv4(127, 1, 0, byte(1+i)), nil)
		if err != nil {
			return err
		}
		d.heard = d.agree
		devices = append(devices, d)
		if err := d.run(func() bool { return d.link.State() == attach.StateAttached }); err != nil {
			return err
		}
		serving.Go(func() { d.run(func() bool { return false }) })
	}
	ctx, stop := context.WithTimeout(ctx, s.asking)
	defer stop()
	loading := make(chan error, 1)
	before := f.attached.Load()
	go func() { loading <- f.grow(ctx, int(before)+int(s.load*s.asking.Seconds()), s.window, s.load) }()
	times, noes := f.ask(ctx, devices, s.asks)
	<-loading
	if len(times) == 0 {
		return errors.New("nobody was introduced")
	}
	slices.Sort(times)
	p99 := times[len(times)*99/100]
	fmt.Printf("%-42s %10.1f ms p99, %.1f p50, of %d, beside %d devices and %.0f attaches a second; goal at most %d ms: %s\n", "an introduction, from the first packet",
		p99.Seconds()*1e3, times[len(times)/2].Seconds()*1e3, len(times), before, float64(f.attached.Load()-before)/s.asking.Seconds(), goalIntroduce.Milliseconds(), reached(p99 <= goalIntroduce))
	if noes > 0 {
		fmt.Printf("%-42s %10d\n", "introductions that failed", noes)
	}
	return nil
}

// ask introduces clients at a steady rate until ctx ends.
func (f *fleet) ask(ctx context.Context, devices []*line, rate float64) (times []time.Duration, noes int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	pace := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer pace.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			all.Wait()
			return times, noes
		case <-pace.C:
		}
		all.Go(func() {
			took, err := f.introduce(net.IPv4(127, 2, 0, byte(1+i%askers)), devices[i%len(devices)].key.ID())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				noes++
				return
			}
			times = append(times, took)
		})
	}
}

func (f *fleet) introduce(ip net.IP, device identity.ID) (time.Duration, error) {
	c, err := f.newLine(ip, &attach.Introduce{Device: device})
	if err != nil {
		return 0, err
	}
	defer c.udp.Close()
	begin := time.Now()
	var answer attach.Kind
	c.heard = func(k attach.Kind, _ []byte) {
		if k == attach.KindIntroduced || k == attach.KindNotIntroduced {
			answer = k
		}
	}
	if err := c.run(func() bool { return answer != 0 || time.Since(begin) > 5*time.Second }); err != nil {
		return 0, err
	}
	if answer != attach.KindIntroduced {
		return 0, errors.New("not introduced")
	}
	return time.Since(begin), nil
}
