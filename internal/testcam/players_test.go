package testcam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg"
	"image/png"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpmjpeg"
	"github.com/pion/rtp"
	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
)

// start runs a camera for one test and checks afterwards that nothing of it
// is left.
func start(t *testing.T, o Options) *Camera {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	c, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, leaks)
	})
	return c
}

// player runs a program that must end by itself with success.
func player(t *testing.T, name string, args ...string) string {
	t.Helper()
	testnet.Program(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func checkMark(t *testing.T, c *Camera, img image.Image) Mark {
	t.Helper()
	m, err := ReadMark(img)
	if err != nil || m.Name != c.Name() || m.Number == 0 {
		t.Errorf("mark: got %v, %v, want name %v", m, err, c.Name())
	}
	return m
}

func checkPNG(t *testing.T, c *Camera, file string) Mark {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return checkMark(t, c, img)
}

func TestFFprobe(t *testing.T) {
	c := start(t, Options{})
	out := player(t, "ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height,pix_fmt", "-of", "csv=p=0", c.URL())
	if want := "mjpeg,640,360,yuvj420p\n"; out != want {
		t.Errorf("ffprobe %s: got %q, want %q", c.URL(), out, want)
	}
}

func TestFFmpeg(t *testing.T) {
	for _, way := range []string{"udp", "tcp"} {
		t.Run(way, func(t *testing.T) {
			c := start(t, Options{FPS: 25})
			dir := t.TempDir()
			out := player(t, "ffmpeg", "-v", "warning", "-rtsp_transport", way, "-i", c.URL(),
				"-frames:v", "10", "-fps_mode", "passthrough", filepath.Join(dir, "%02d.png"))
			// A quiet log is part of the test: it would name missed packets and bad tables.
			// On a busy machine two pictures are taken within one tick of ffmpeg's file.
			for line := range strings.Lines(out) {
				if !strings.Contains(line, "deprecated pixel format") && !strings.Contains(line, "non monotonically increasing dts") {
					t.Errorf("ffmpeg says %q", line)
				}
			}
			var last uint32
			for i := range 10 {
				m := checkPNG(t, c, filepath.Join(dir, fmt.Sprintf("%02d.png", i+1)))
				if m.Number <= last {
					t.Errorf("picture %d has number %d after %d", i, m.Number, last)
				}
				last = m.Number
			}
		})
	}
}

func TestGStreamer(t *testing.T) {
	c := start(t, Options{FPS: 25})
	dir := t.TempDir()
	// At its end it may close the connection before its own PAUSE is sent, and then
	// calls that an error: the pictures tell.
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, testnet.Program(t, "gst-launch-1.0"), "-q", "rtspsrc", "location="+c.URL(), "!", "rtpjpegdepay", "!", "jpegdec", "!",
		"videoconvert", "!", "identity", "eos-after=5", "!", "pngenc", "!", "multifilesink", "location="+dir+"/%d.png").CombinedOutput()
	if err != nil {
		t.Logf("gst-launch-1.0: %v\n%s", err, out)
	}
	checkPNG(t, c, dir+"/3.png")
}

// TestGortsplib reads with a second, independent implementation, over both ways.
func TestGortsplib(t *testing.T) {
	for name, protocol := range map[string]gortsplib.Protocol{"udp": gortsplib.ProtocolUDP, "tcp": gortsplib.ProtocolTCP} {
		t.Run(name, func(t *testing.T) {
			c := start(t, Options{FPS: 50})
			u, err := base.ParseURL(c.URL())
			if err != nil {
				t.Fatal(err)
			}
			client := &gortsplib.Client{Scheme: u.Scheme, Host: u.Host, Protocol: &protocol}
			if err := client.Start(); err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			desc, _, err := client.Describe(u)
			if err != nil {
				t.Fatal(err)
			}
			var motion *format.MJPEG
			media := desc.FindFormat(&motion)
			if media == nil {
				t.Fatal("no MJPEG in the description")
			}
			decoder, err := motion.CreateDecoder()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Setup(desc.BaseURL, media, 0, 0); err != nil {
				t.Fatal(err)
			}
			pictures := make(chan []byte, 100)
			client.OnPacketRTP(media, motion, func(p *rtp.Packet) {
				picture, err := decoder.Decode(p)
				if err == nil {
					select {
					case pictures <- picture:
					default:
					}
				} else if !errors.Is(err, rtpmjpeg.ErrMorePacketsNeeded) && !errors.Is(err, rtpmjpeg.ErrNonStartingPacketAndNoPrevious) {
					t.Errorf("packet: %v", err)
				}
			})
			for range 2 { // play, pause, play again
				if _, err := client.Play(nil); err != nil {
					t.Fatal(err)
				}
				for range 5 {
					img, _, err := image.Decode(bytes.NewReader(<-pictures))
					if err != nil {
						t.Fatal(err)
					}
					checkMark(t, c, img)
				}
				if _, err := client.Pause(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestCurl(t *testing.T) {
	c := start(t, Options{})
	file := filepath.Join(t.TempDir(), "frame.jpg")
	player(t, "curl", "-sSf", "-o", file, "http://"+c.HTTPAddr().String()+"/frame.jpg")
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	checkMark(t, c, img)
}

func TestMotionJPEG(t *testing.T) {
	c := start(t, Options{FPS: 50})
	resp, err := http.Get("http://" + c.HTTPAddr().String() + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/x-mixed-replace" {
		t.Fatalf("content type %q: %v", resp.Header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(resp.Body, params["boundary"])
	for range 5 {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		img, _, err := image.Decode(part)
		if err != nil {
			t.Fatal(err)
		}
		checkMark(t, c, img)
	}
}
