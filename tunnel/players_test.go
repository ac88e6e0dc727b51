//go:build linux

package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpmjpeg"

	"github.com/keyholed/keyhole/internal/testnet"
)

// camera offers UDP before all else and calls itself by an address of its own,
// as cameras behind a tunnel do. It shows a moving square as RTP/JPEG.
type camera struct {
	t       testing.TB
	packets [][]byte // one picture's RTP packets, as interleaved frames
	overUDP atomic.Int32
	overTCP atomic.Int32
	uris    sync.Map // of SETUP
}

// ownAddress is what the camera believes to be called: no player can reach it
// (RFC 5737 documentation addresses).
const ownAddress = "192.0.2.88"

func newCamera(t testing.TB) (c *camera, address string) {
	t.Helper()
	c = &camera{t: t}
	e := &rtpmjpeg.Encoder{}
	if err := e.Init(); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		picture := image.NewYCbCr(image.Rect(0, 0, 160, 120), image.YCbCrSubsampleRatio420)
		for y := range 120 {
			for x := range 160 {
				if x/16 == i%10 {
					picture.Y[picture.YOffset(x, y)] = 235
				}
			}
		}
		var file bytes.Buffer
		if err := jpeg.Encode(&file, picture, nil); err != nil {
			t.Fatal(err)
		}
		packets, err := e.Encode(file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		var frames []byte
		for _, p := range packets {
			p.Timestamp = uint32(i * 9000) // ten a second at 90 kHz
			raw, err := p.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, '$', 0, byte(len(raw)>>8), byte(len(raw)))
			frames = append(frames, raw...)
		}
		c.packets = append(c.packets, frames)
	}
	return c, serve(t, "tcp4", "127.0.0.1:0", c.talk)
}

const sdp = "v=0\r\no=- 0 0 IN IP4 " + ownAddress + "\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:trackID=0\r\n"

func (c *camera) talk(conn Conn) {
	in := textproto.NewReader(bufio.NewReader(conn))
	var playing sync.WaitGroup
	defer playing.Wait()
	gone, stop := context.WithCancel(context.Background())
	defer stop()
	defer conn.Close()
	var writing sync.Mutex
	for {
		// Receiver reports of the player come as frames.
		for first, err := in.R.Peek(4); err == nil && first[0] == '$'; first, err = in.R.Peek(4) {
			in.R.Discard(4 + int(first[2])<<8 + int(first[3]))
		}
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		header, err := in.ReadMIMEHeader()
		if err != nil {
			return
		}
		method, rest, _ := strings.Cut(line, " ")
		uri, _, _ := strings.Cut(rest, " ")
		extra, body := "", ""
		switch method {
		case "OPTIONS":
			extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n"
		case "DESCRIBE":
			extra = "Content-Base: rtsp://" + ownAddress + ":8554/live/\r\nContent-Type: application/sdp\r\n"
			body = sdp
		case "SETUP":
			c.uris.Store(uri, true)
			transport := header.Get("Transport")
			if strings.Contains(transport, "interleaved") {
				c.overTCP.Add(1)
				extra = "Session: 77\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
			} else {
				c.overUDP.Add(1)
				extra = "Session: 77\r\nTransport: " + transport + ";server_port=6000-6001\r\n"
			}
		case "PLAY":
			extra = "Session: 77\r\n"
			defer stop()
			playing.Go(func() { c.play(gone, conn, &writing) })
		}
		if body != "" {
			extra += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		writing.Lock()
		_, err = fmt.Fprintf(conn, "RTSP/1.0 200 OK\r\nCSeq: %s\r\n%s\r\n%s", header.Get("Cseq"), extra, body)
		writing.Unlock()
		if err != nil || method == "TEARDOWN" {
			return
		}
	}
}

func (c *camera) play(ctx context.Context, conn Conn, writing *sync.Mutex) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		writing.Lock()
		_, err := conn.Write(c.packets[i%len(c.packets)])
		writing.Unlock()
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tunnelled opens a local port that leads through an rtsp tunnel to address,
// as `keyhole connect` does, and returns the URL.
func tunnelled(t testing.TB, address string) string {
	b := NewBridge(Config{})
	s := mustService(t, "cam", "rtsp", address)
	_, port, _ := net.SplitHostPort(serve(t, "tcp4", "127.0.0.1:0", func(c Conn) {
		tun, err := b.Open(context.Background(), Meta{Peer: "player"}, s)
		if err != nil {
			t.Error(err)
			return
		}
		tun.Run(context.Background(), c)
	}))
	t.Cleanup(func() { b.Close() })
	return "rtsp://127.0.0.1:" + port + "/live"
}

// Players as people have them, without options: each asks for UDP first, hears
// 461 and plays over TCP. The own address in Content-Base troubles none. (VLC
// as Debian builds it has no module for RTSP.)
func TestPlayersFallBackToTCP(t *testing.T) {
	picture := t.TempDir() + "/p.png"
	for _, player := range []struct {
		name string
		args []string
		want string // in the output
	}{
		{"ffprobe", []string{"-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv", "URL"}, "mjpeg,160,120"},
		{"ffmpeg", []string{"-v", "error", "-i", "URL", "-frames:v", "3", "-f", "framemd5", "-"}, "160x120"},
		{"gst-launch-1.0", []string{"-q", "rtspsrc", "location=URL", "!", "rtpjpegdepay", "!", "jpegdec", "!", "videoconvert", "!", "pngenc", "snapshot=true", "!", "filesink", "location=" + picture}, ""},
	} {
		t.Run(player.name, func(t *testing.T) {
			path := testnet.Program(t, player.name)
			cam, address := newCamera(t)
			url := tunnelled(t, address)
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
			defer cancel()
			args := make([]string, len(player.args))
			for i, a := range player.args {
				args[i] = strings.ReplaceAll(a, "URL", url)
			}
			cmd := exec.CommandContext(ctx, path, args...)
			out, err := cmd.CombinedOutput()
			if player.want == "" { // it may call its own goodbye an error: its picture tells
				_, err = os.Stat(picture)
			}
			if err != nil || !strings.Contains(string(out), player.want) {
				t.Errorf("%v: %v, want %q in\n%s", cmd.Args, err, player.want, tail(out))
			}
			if udp, tcp := cam.overUDP.Load(), cam.overTCP.Load(); udp != 0 || tcp == 0 {
				t.Errorf("the camera saw %d SETUPs for UDP and %d for TCP, want 0 and some", udp, tcp)
			}
			cam.uris.Range(func(uri, _ any) bool { t.Logf("%s sets up %v", player.name, uri); return true })
		})
	}
}

func tail(out []byte) []byte { return out[max(0, len(out)-3000):] }
