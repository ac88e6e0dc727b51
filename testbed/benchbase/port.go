package main

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/internal/datagram"
	"github.com/keyholed/keyhole/protocol/attach"
)

const (
	// grace is what attach.Link adds to its interval when it promises to be heard
	// again.
	grace = 5 * time.Second
	// lateAfter the interval an answer was lost: a node looks at its devices every
	// two seconds.
	lateAfter = 7 * time.Second

	portBatch = 32 // packets in a system call
)

// A fleet is all simulated devices.
type fleet struct {
	station  *station
	interval time.Duration // between keep-alives
	ports    []*port
	began    time.Time

	attached atomic.Int64
	failed   atomic.Int64 // attempts that had to be made again
	pongs    atomic.Int64
	late     atomic.Int64 // keep-alives that were not answered in time
	alive    atomic.Int64 // see tend
	strange  atomic.Int64 // packets that nobody can use: a node that forgot a device says so
	done     sync.WaitGroup
}

// A port is one socket with its devices. A port attaches one of them at a time.
type port struct {
	fleet *fleet
	conn  *datagram.Conn
	node  netip.AddrPort
	turn  sync.Mutex // of who attaches

	mu       sync.Mutex
	out      *datagram.Batch
	scratch  []byte
	devices  []attach.Sleeper
	heard    []uint32 // seconds, by device
	by       map[uint64]uint32
	link     *attach.Link // attaching; nil: none
	finished chan bool    // of link
}

func newFleet(st *station, ports int, interval time.Duration) (*fleet, error) {
	f := &fleet{station: st, interval: interval, began: time.Now()}
	for i := range ports {
		ip := net.IPv4(127, 16+byte(i>>16), byte(i>>8), byte(i))
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip})
		if err != nil {
			f.close()
			return nil, err
		}
		conn, err := datagram.New(udp)
		if err != nil {
			f.close()
			return nil, err
		}
		p := &port{
			fleet: f, conn: conn, node: st.address, out: datagram.NewBatch(portBatch, attach.MaxPacket),
			by: map[uint64]uint32{}, finished: make(chan bool, 1),
		}
		f.ports = append(f.ports, p)
		f.done.Go(p.read)
	}
	return f, nil
}

func (f *fleet) now() time.Duration { return time.Since(f.began) }

func (f *fleet) close() {
	for _, p := range f.ports {
		p.conn.Close()
	}
	f.done.Wait()
}

// read takes what comes until the socket is closed.
func (p *port) read() {
	in := datagram.NewBatch(portBatch, attach.MaxPacket)
	for p.conn.Read(in) == nil {
		p.mu.Lock()
		for i := range in.Len() {
			p.take(in.Packet(i))
		}
		p.flush()
		p.mu.Unlock()
	}
}

// take is called with mu held, as all below.
func (p *port) take(packet []byte) {
	if index, ok := attach.PacketIndex(packet); ok {
		if d, known := p.by[index]; known {
			p.keep(d, packet)
			return
		}
	}
	if p.link == nil {
		p.fleet.strange.Add(1)
		return
	}
	p.link.Receive(p.fleet.now(), packet)
	p.tick()
}

// keep is what an attached device does: it answers, and pings again when its
// ping was answered.
func (p *port) keep(d uint32, packet []byte) {
	s := &p.devices[d]
	answer, pong := s.Receive(p.scratch[:0], packet)
	if pong {
		p.fleet.pongs.Add(1)
		answer, _ = s.Ping(p.scratch[:0], p.fleet.interval, p.fleet.interval+grace)
	}
	p.heard[d] = uint32(p.fleet.now() / time.Second)
	if answer != nil {
		p.scratch = answer
		p.send(p.node, answer)
	}
}

// tick lets the attaching link do what is due, and puts it to sleep when it is
// attached.
func (p *port) tick() {
	p.link.Tick(p.fleet.now())
	if p.link.State() != attach.StateAttached {
		return
	}
	s, _ := p.link.Sleep()
	p.by[s.Index()] = uint32(len(p.devices))
	p.devices = append(p.devices, s)
	p.heard = append(p.heard, uint32(p.fleet.now()/time.Second))
	p.link = nil
	p.fleet.attached.Add(1)
	p.finished <- true
}

func (p *port) send(to netip.AddrPort, packet []byte) {
	if !p.out.Add(to, packet) {
		p.flush()
		p.out.Add(to, packet)
	}
}

func (p *port) flush() {
	if p.out.Len() > 0 {
		p.conn.Write(p.out)
	}
}

// tendEvery is how often each device is looked at.
const tendEvery = 5 * time.Second

// tend looks at one port after the other until ctx ends: a lost packet is no reason
// to fall silent. Alive is how many devices were heard lately, in the latest round.
func (f *fleet) tend(ctx context.Context) {
	pace := time.NewTicker(tendEvery / time.Duration(len(f.ports)))
	defer pace.Stop()
	for {
		alive := 0
		for _, p := range f.ports {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			alive += p.remind()
		}
		f.alive.Store(int64(alive))
	}
}

// remind pings those who were not answered in time, and returns how many were
// heard lately.
func (p *port) remind() (alive int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.fleet.now()
	for d := range p.devices {
		silent := now - time.Duration(p.heard[d])*time.Second
		if silent <= p.fleet.interval+lateAfter {
			alive++
			continue
		}
		p.fleet.late.Add(1)
		if ping, err := p.devices[d].Ping(p.scratch[:0], 0, p.fleet.interval+grace); err == nil {
			p.scratch = ping
			p.send(p.node, ping)
		}
	}
	p.flush()
	return alive
}
