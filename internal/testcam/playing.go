package testcam

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

// playing is one session: a way to the client and, between PLAY and PAUSE, a
// goroutine that sends frames along it. Its methods belong to the connection's
// goroutine.
type playing struct {
	id     string
	conn   *rtspConn
	way    transport
	stream *rtpStream // owned by send while it runs

	viewer *viewer       // nil unless playing
	halt   chan struct{} // closed by stop
	sent   sync.WaitGroup
	buf    []byte // of send: one frame's interleaved packets
}

func newPlaying(conn *rtspConn, way transport) *playing {
	p := &playing{id: rand.Text(), conn: conn, way: way, stream: newRTPStream(time.Now())}
	if !way.tcp {
		conn.camera.udp.register(conn.remote(way.rtcp), conn.alive)
	}
	return p
}

// prepare takes a viewer's place, or returns errFull. PLAY while playing
// changes nothing.
func (p *playing) prepare() (err error) {
	if p.viewer == nil {
		p.viewer, err = p.conn.camera.film.watch()
	}
	return err
}

// start sends, after prepare.
func (p *playing) start() {
	if p.halt != nil {
		return
	}
	p.halt = make(chan struct{})
	viewer, halt := p.viewer, p.halt
	p.sent.Go(func() { p.send(viewer, halt) })
}

// stop returns when nothing is sent any more.
func (p *playing) stop() {
	if p.halt != nil {
		close(p.halt)
		p.sent.Wait()
		p.halt = nil
	}
	if p.viewer != nil {
		p.viewer.leave()
		p.viewer = nil
	}
}

// end gives everything back.
func (p *playing) end() {
	p.stop()
	if p.way.tcp {
		return
	}
	p.conn.camera.udp.forget(p.conn.remote(p.way.rtcp))
	p.sendUDP(p.stream.goodbye(time.Now()), true)
}

// send carries frames until halt or an error, which ends the connection.
func (p *playing) send(v *viewer, halt <-chan struct{}) {
	for {
		select {
		case <-halt:
			return
		case f := <-v.frames:
			if err := p.sendFrame(f); err != nil {
				p.conn.conn.Close() // the reader sees it and tears down
				return
			}
		}
	}
}

func (p *playing) sendFrame(f *frame) error {
	if !p.way.tcp {
		err := p.stream.packetize(f, func(packet []byte) error { return p.sendUDP(packet, false) })
		if now := time.Now(); err == nil && p.stream.reportDue(now) {
			err = p.sendUDP(p.stream.report(now), true)
		}
		return err
	}
	p.buf = p.buf[:0]
	p.stream.packetize(f, func(packet []byte) error {
		p.buf = p.interleave(p.way.rtp, packet)
		return nil
	})
	if now := time.Now(); p.stream.reportDue(now) {
		p.buf = p.interleave(p.way.rtcp, p.stream.report(now))
	}
	if err := p.conn.write(p.buf); err != nil {
		return err
	}
	p.conn.alive() // it takes our bytes: nothing more is asked of it
	return nil
}

// interleave appends a packet as RFC 2326 §10.12 wraps it.
func (p *playing) interleave(channel uint16, packet []byte) []byte {
	b := append(p.buf, '$', byte(channel))
	b = binary.BigEndian.AppendUint16(b, uint16(len(packet)))
	return append(b, packet...)
}

// sendUDP loses what the network refuses, as UDP does; only our own socket's
// end is an error.
func (p *playing) sendUDP(packet []byte, control bool) error {
	socket, port := p.conn.camera.udp.rtp, p.way.rtp
	if control {
		socket, port = p.conn.camera.udp.rtcp, p.way.rtcp
	}
	_, err := socket.WriteToUDPAddrPort(packet, p.conn.remote(port))
	select {
	case <-p.conn.camera.done:
		return err
	default:
		return nil
	}
}
