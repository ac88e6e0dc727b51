//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/internal/testcam"
	"github.com/keyholed/keyhole/internal/testnet"
)

// Where things are on the board's loopback.
const (
	camRTSP  = "127.0.0.1:8554"
	camHTTP  = "127.0.0.1:8099"
	sshd     = "127.0.0.1:2222"
	bulk     = "127.0.0.1:5001"
	boardKey = "Front door"
)

const boardConfig = `
[device]
name = "Front door"
product = "acme-cam-2"
state = "state"
identity = "identity"
[[service]]
name = "rtsp"
type = "rtsp"
address = "` + camRTSP + `"
[[service]]
name = "web"
type = "http"
address = "` + camHTTP + `"
[[service]]
name = "ssh"
type = "ssh"
address = "` + sshd + `"
[[service]]
name = "bulk"
type = "tcp"
address = "` + bulk + `"
[board]
profile = "simulated"
`

// A board runs keyholed with a simulated front panel, and a camera behind it.
type board struct {
	host
	dir    string
	camera *testcam.Camera
	daemon *process
}

func newBoard(t *testing.T, h host) *board {
	t.Helper()
	b := prepareBoard(t, h, boardConfig)
	b.run(t)
	return b
}

// prepareBoard sets up everything but does not start the daemon.
func prepareBoard(t *testing.T, h host, config string) *board {
	t.Helper()
	b := &board{host: h, dir: t.TempDir()}
	err := h.Within(func() (err error) {
		b.camera, err = testcam.Start(testcam.Options{RTSP: camRTSP, HTTP: camHTTP, FPS: 25})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.camera.Close() })
	if err := os.WriteFile(b.path("keyholed.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *board) path(name string) string { return filepath.Join(b.dir, name) }

// run starts the daemon and waits until it answers.
func (b *board) run(t *testing.T) {
	t.Helper()
	b.daemon = start(t, b.command("run", "--config", b.path("keyholed.toml")))
	testnet.Eventually(t, "keyholed answers", func() error {
		if !b.daemon.running() {
			t.Fatalf("keyholed has ended: %s", b.daemon.err)
		}
		if r := finish(t, b.command("status")); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
}

// command is a keyholed command on the board.
func (b *board) command(args ...string) *exec.Cmd {
	return b.Command(program("keyholed"), append(args, "--socket", b.path("socket"))...)
}

func (b *board) keyholed(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, b.command(args...))
}

func (b *board) status(t *testing.T) (s control.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(b.keyholed(t, "status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// press is a finger on the pair button; it returns when the board has seen it.
func (b *board) press(t *testing.T) {
	t.Helper()
	b.keyholed(t, "press", "pair")
}

// pressAgain is when a person presses once more: a press within the first moments of
// a board on a busy machine may go unnoticed.
const pressAgain = 5 * time.Second

// open presses the button and waits for the window.
func (b *board) open(t *testing.T) {
	t.Helper()
	b.press(t)
	pressed := time.Now()
	testnet.Eventually(t, "the pairing window", func() error {
		if b.status(t).Pairing.Open {
			return nil
		}
		if time.Since(pressed) > pressAgain {
			b.press(t)
			pressed = time.Now()
		}
		return errors.New("closed")
	})
}

// asking waits until somebody asks to pair.
func (b *board) asking(t *testing.T) (a control.Asking) {
	t.Helper()
	testnet.Eventually(t, "somebody who asks", func() error {
		now := b.status(t).Pairing.Asking
		if now == nil {
			return errors.New("nobody")
		}
		a = *now
		return nil
	})
	return a
}

// shows waits until the text is to be seen on the display, at any place and size
// that its one font allows.
func (b *board) shows(t *testing.T, text string) {
	t.Helper()
	testnet.Eventually(t, "the display", func() error {
		picture, err := png.Decode(bytes.NewReader([]byte(b.displayPNG(t))))
		if err != nil {
			return err
		}
		enlarged := picture.Bounds().Dx() / hal.Width
		lit := func(x, y int) bool {
			r, _, _, _ := picture.At(x*enlarged, y*enlarged).RGBA()
			return r > 0x7fff
		}
		for scale := 1; scale <= hal.MaxScale; scale++ {
			if findText(lit, text, scale) {
				return nil
			}
		}
		return fmt.Errorf("%q is not to be seen", text)
	})
}

func (b *board) displayPNG(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "display.png")
	b.keyholed(t, "display", "--png", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// findText looks for a picture of text in a display.
func findText(lit func(x, y int) bool, text string, scale int) bool {
	// Drawn in the corner, its extent is that of its lit pixels.
	var want hal.Picture
	want.Text(0, 0, scale, text)
	type spot struct{ x, y int }
	var pixels []spot
	width, height := 0, 0
	for y := range hal.Height {
		for x := range hal.Width {
			if want.Lit(x, y) {
				pixels = append(pixels, spot{x, y})
				width, height = max(width, x+1), max(height, y+1)
			}
		}
	}
	for y := 0; y+height <= hal.Height; y++ {
	next:
		for x := 0; x+width <= hal.Width; x++ {
			on := 0
			for dy := range height {
				for dx := range width {
					if lit(x+dx, y+dy) {
						on++
					}
				}
			}
			if on != len(pixels) {
				continue
			}
			for _, p := range pixels {
				if !lit(x+p.x, y+p.y) {
					continue next
				}
			}
			return true
		}
	}
	return false
}
