package testcam

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// sessionTimeout is RFC 2326 §12.37's default: a client that sends nothing
	// for so long, neither requests nor RTCP, is gone.
	sessionTimeout = 60 * time.Second
	// writeTimeout ends a client that takes no bytes at all. A slow one only
	// misses frames.
	writeTimeout = 10 * time.Second
	// maxConns bounds the RTSP connections; four for each viewer, since
	// players open more than one while they find out what works.
	maxConns = 64
)

func (c *Camera) acceptRTSP() {
	for {
		conn, err := c.rtsp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.log.Warn("accept RTSP", "err", err)
			select {
			case <-c.done:
				return
			case <-time.After(100 * time.Millisecond): // out of descriptors: do not spin
			}
			continue
		}
		if !c.enter(conn) {
			conn.Close()
			continue
		}
		c.tasks.Go(func() {
			defer c.exit(conn)
			newRTSPConn(c, conn).serve()
		})
	}
}

func (c *Camera) enter(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return false
	default:
	}
	if len(c.conns) >= maxConns {
		return false
	}
	c.conns[conn] = struct{}{}
	return true
}

func (c *Camera) exit(conn net.Conn) {
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// rtspConn is one client. A session belongs to its connection and ends with
// it, which RFC 2326 leaves to the server.
//
//	init --SETUP--> ready --PLAY--> playing --PAUSE--> ready --TEARDOWN--> init
type rtspConn struct {
	camera *Camera
	conn   net.Conn
	in     *bufio.Reader
	play   *playing // nil when init; owned by serve

	writing sync.Mutex // one frame or one response at a time
}

func newRTSPConn(c *Camera, conn net.Conn) *rtspConn {
	return &rtspConn{camera: c, conn: conn, in: bufio.NewReaderSize(conn, maxLine)}
}

// serve answers requests until the client goes or is refused.
func (rc *rtspConn) serve() {
	defer rc.teardown()
	defer rc.conn.Close() // before teardown: it frees a sender that is stuck
	for {
		rc.alive()
		req, err := readRequest(rc.in, func(byte) { rc.alive() })
		if errors.Is(err, errMalformed) {
			rc.write(response{status: 400}.append(nil, &request{}))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				rc.camera.log.Debug("RTSP client ended", "remote", rc.conn.RemoteAddr(), "err", err)
			}
			return
		}
		resp := rc.answer(req)
		if err := rc.write(resp.append(nil, req)); err != nil {
			return
		}
		if req.method == "PLAY" && resp.status == 200 {
			rc.play.start() // after the response: packets must not overtake it
		}
	}
}

// alive puts the session's end off.
func (rc *rtspConn) alive() { rc.conn.SetReadDeadline(time.Now().Add(sessionTimeout)) }

func (rc *rtspConn) write(b []byte) error {
	rc.writing.Lock()
	defer rc.writing.Unlock()
	rc.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := rc.conn.Write(b)
	return err
}

func (rc *rtspConn) answer(req *request) response {
	if !ours(req.url) {
		return response{status: 404}
	}
	if id := req.header.Get("Session"); id != "" && (rc.play == nil || id != rc.play.id) {
		return response{status: 454}
	}
	switch req.method {
	case "OPTIONS":
		return response{status: 200, header: []string{"Public: OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER"}}
	case "DESCRIBE":
		return rc.describe()
	case "SETUP":
		return rc.setup(req)
	case "GET_PARAMETER", "SET_PARAMETER": // players keep their session alive with these
		return response{status: 200, header: rc.sessionHeader()}
	case "PLAY":
		return rc.playStream()
	case "PAUSE":
		if rc.play == nil {
			return response{status: 454}
		}
		rc.play.stop()
		return response{status: 200, header: rc.sessionHeader()}
	case "TEARDOWN":
		if rc.play == nil {
			return response{status: 454}
		}
		rc.teardown()
		return response{status: 200}
	}
	return response{status: 501}
}

// ours says whether a URL names the camera or its one stream, whatever host it
// was reached by.
func ours(raw string) bool {
	if raw == "*" {
		return true
	}
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	path := strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/video")
	return path == "" || path == Path
}

// describe names the camera's own address, as cameras do, whatever name the
// client came by.
func (rc *rtspConn) describe() response {
	own := rc.camera.RTSPAddr()
	family := "IP4"
	if own.Addr().Is6() {
		family = "IP6"
	}
	parts := rc.camera.film.painter.back.Rect
	sdp := strings.Join([]string{
		"v=0",
		fmt.Sprintf("o=- 1 1 IN %s %v", family, own.Addr()),
		"s=Keyhole test camera " + rc.camera.name.String(),
		"t=0 0",
		"a=control:*",
		"a=range:npt=now-",
		fmt.Sprintf("m=video 0 RTP/AVP %d", payloadJPEG),
		"c=IN " + map[string]string{"IP4": "IP4 0.0.0.0", "IP6": "IP6 ::"}[family],
		fmt.Sprintf("a=framerate:%d", time.Second/rc.camera.film.every),
		fmt.Sprintf("a=x-dimensions:%d,%d", parts.Dx(), parts.Dy()),
		"a=control:video",
	}, "\r\n") + "\r\n"
	return response{status: 200, body: sdp, header: []string{
		"Content-Type: application/sdp",
		"Content-Base: rtsp://" + own.String() + Path + "/",
		"Cache-Control: no-cache",
	}}
}

func (rc *rtspConn) setup(req *request) response {
	if rc.play != nil {
		return response{status: 455} // one stream, set up once
	}
	t, ok := parseTransport(req.header.Get("Transport"))
	if !ok {
		return response{status: 461}
	}
	viewer, err := rc.camera.film.watch()
	if err != nil {
		return response{status: 453}
	}
	viewer.leave() // only PLAY takes frames; this asked whether there is room
	rc.play = newPlaying(rc, t)
	return response{status: 200, header: append(rc.sessionHeader(),
		"Transport: "+t.answer(rc.play.stream.ssrc, rc.camera.udp.ports()))}
}

func (rc *rtspConn) playStream() response {
	if rc.play == nil {
		return response{status: 454}
	}
	if rc.play.halt != nil { // it plays already; its numbers belong to the sender now
		return response{status: 200, header: append(rc.sessionHeader(), "Range: npt=now-")}
	}
	if err := rc.play.prepare(); err != nil {
		return response{status: 453}
	}
	s := rc.play.stream
	return response{status: 200, header: append(rc.sessionHeader(), "Range: npt=now-",
		fmt.Sprintf("RTP-Info: url=rtsp://%v%s/video;seq=%d;rtptime=%d", rc.camera.RTSPAddr(), Path, s.sequence, s.timestamp(time.Now())))}
}

func (rc *rtspConn) sessionHeader() []string {
	if rc.play == nil {
		return nil
	}
	return []string{fmt.Sprintf("Session: %s;timeout=%d", rc.play.id, int(sessionTimeout.Seconds()))}
}

func (rc *rtspConn) teardown() {
	if rc.play != nil {
		rc.play.end()
		rc.play = nil
	}
}

// remote is the address a client's UDP packets go to: the one it came from and
// no other, so that nobody can be made a target.
func (rc *rtspConn) remote(port uint16) netip.AddrPort {
	addr, ok := rc.conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), port)
}
