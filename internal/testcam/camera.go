// Package testcam is a camera without hardware: a moving picture with a clock,
// a counter and a mark that machines can read, served over RTSP (RTP/JPEG,
// over TCP and UDP) and over HTTP (MJPEG, single pictures). keyhole demo films
// with it and tests watch it with real players.
//
// It has the habits of a small real camera: it offers UDP first, it names its
// own address in Content-Base, and it asks nobody for a password. It has no
// sound, no recording, no multicast and no encryption. It draws only while
// somebody watches.
package testcam

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Options of a camera. The zero value is a camera on 127.0.0.1 with ports that
// the kernel chooses.
type Options struct {
	RTSP    string // listen address; "" is 127.0.0.1:0. UDP ports are taken beside it
	HTTP    string // listen address; "" is 127.0.0.1:0
	Width   int    // pixels, a multiple of 8 from 320 to 2,040; 0 is 640
	Height  int    // pixels, a multiple of 8 from 184 to 2,040; 0 is 360
	FPS     int    // pictures a second, 1 to 60; 0 is 12
	Quality int    // of JPEG, 1 to 99; 0 is 80
	Viewers int    // at once, RTSP and HTTP together; 0 is 16
	Name    Name   // zero: a random one
	Log     *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Width, 640)
	def(&o.Height, 360)
	def(&o.FPS, 12)
	def(&o.Quality, 80)
	def(&o.Viewers, 16)
	if o.RTSP == "" {
		o.RTSP = "127.0.0.1:0"
	}
	if o.HTTP == "" {
		o.HTTP = "127.0.0.1:0"
	}
	if o.Name == (Name{}) {
		rand.Read(o.Name[:])
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Width%8 != 0 || o.Width < minWidth || o.Width > maxWidth,
		o.Height%8 != 0 || o.Height < minHeight || o.Height > maxHeight:
		return o, fmt.Errorf("picture of %dx%d: each side must be a multiple of 8, from %dx%d to %dx%d",
			o.Width, o.Height, minWidth, minHeight, maxWidth, maxHeight)
	case o.FPS < 1 || o.FPS > 60:
		return o, fmt.Errorf("%d pictures a second: want 1 to 60", o.FPS)
	case o.Quality < 1 || o.Quality > 99:
		return o, fmt.Errorf("quality %d: want 1 to 99", o.Quality)
	}
	return o, nil
}

// Camera is a camera that runs, from Start to Close.
type Camera struct {
	name Name
	log  *slog.Logger
	film *film
	rtsp net.Listener
	udp  *udpPair
	http net.Listener
	web  *http.Server

	done  chan struct{} // closed by Close
	once  sync.Once
	tasks sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // of RTSP
}

// Start opens the ports and begins to serve. Whoever calls it calls Close.
func Start(o Options) (*Camera, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Camera{
		name: o.Name, log: o.Log,
		film:  newFilm(newPainter(o.Name, o.Width, o.Height), time.Second/time.Duration(o.FPS), o.Quality, o.Viewers),
		done:  make(chan struct{}),
		conns: make(map[net.Conn]struct{}),
	}
	if c.rtsp, err = net.Listen("tcp", o.RTSP); err != nil {
		return nil, err
	}
	if c.http, err = net.Listen("tcp", o.HTTP); err != nil {
		c.rtsp.Close()
		return nil, err
	}
	if c.udp, err = openUDPPair(c.RTSPAddr().Addr()); err != nil {
		c.rtsp.Close()
		c.http.Close()
		return nil, err
	}
	c.web = c.newWeb()
	c.tasks.Go(func() { c.film.run(c.done) })
	c.tasks.Go(c.acceptRTSP)
	c.tasks.Go(c.udp.drainRTP)
	c.tasks.Go(c.udp.readRTCP)
	c.tasks.Go(func() { c.web.Serve(c.http) })
	return c, nil
}

// Name is what ReadMark finds in every picture of this camera.
func (c *Camera) Name() Name { return c.name }

// RTSPAddr is where RTSP is served.
func (c *Camera) RTSPAddr() netip.AddrPort { return c.rtsp.Addr().(*net.TCPAddr).AddrPort() }

// HTTPAddr is where the pictures are served over HTTP.
func (c *Camera) HTTPAddr() netip.AddrPort { return c.http.Addr().(*net.TCPAddr).AddrPort() }

// Path is what follows the address in the URL of the camera's stream.
const Path = "/live"

// URL is the address to give to a player.
func (c *Camera) URL() string { return "rtsp://" + c.RTSPAddr().String() + Path }

// Close ends all streams and waits until every goroutine of the camera has
// ended. It may be called more than once.
func (c *Camera) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.rtsp.Close()
		c.udp.close()
		c.web.Close()
		c.mu.Lock()
		for conn := range c.conns {
			conn.Close()
		}
		c.mu.Unlock()
	})
	c.tasks.Wait()
	return nil
}
