//go:build linux

package tunnel

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/tunnel/tries"
)

// watchedService is a real server behind the bridge that authenticates by itself.
type watchedService struct {
	address string // of a local port that leads to it
	asker   *tries.Asker
	failed  atomic.Int32
}

func watchIt(t testing.TB, typ, address string) *watchedService {
	t.Helper()
	w := new(watchedService)
	ledger := tries.New(tries.Config{Failed: func(tries.Who, time.Duration) { w.failed.Add(1) }})
	w.asker = ledger.Asker(tries.Who{Service: "x", Key: [32]byte{1}, Source: netip.MustParseAddr("192.0.2.7")})
	b := NewBridge(Config{})
	t.Cleanup(func() { b.Close() })
	s := mustService(t, "x", typ, address)
	w.address = serve(t, "tcp4", "127.0.0.1:0", func(c Conn) {
		tun, err := b.Open(context.Background(), Meta{Peer: "player"}, s)
		if err != nil {
			t.Error(err)
			c.Close()
			return
		}
		tun.Watch(w.asker)
		tun.Run(context.Background(), c)
	})
	return w
}

// nginx sees every byte of curl's, and is sent no fourth guess at once.
func TestNginxIsWatched(t *testing.T) {
	t.Parallel()
	w := watchIt(t, "http", nginxBasic(t))
	page := "http://" + w.address + "/page.html"
	status := func(args ...string) string {
		return curl(t, append([]string{"-w", "%{http_code}", "-o", "/dev/null"}, args...)...)
	}
	if got := status(page); got != "401" || w.failed.Load() != 0 {
		t.Errorf("without a password: %s, %d failed", got, w.failed.Load())
	}
	if got := status("-u", theUser+":guess", page); got != "401" || w.failed.Load() != 1 || w.asker.Known() {
		t.Errorf("a guess: %s, %d failed", got, w.failed.Load())
	}
	right := []string{"-u", theUser + ":" + thePassword}
	if got := curl(t, append(right, page)...); got != "<p>hello</p>\n" || !w.asker.Known() {
		t.Errorf("the page is %q", got)
	}
	for _, more := range [][]string{{"--http2"}, {"--http1.0"}, {"-I"}, {"--anyauth"}, {"-X", "POST", "-d", "a=b"}} {
		if got := status(append(append(right, more...), page)...); got != "200" && got != "405" {
			t.Errorf("%v: %s", more, got)
		}
	}
	if got := curl(t, append(right, "-w", "%{size_download}", "-o", "/dev/null", "http://"+w.address+"/large.bin")...); got != "4194304" {
		t.Errorf("of the large file came %s bytes", got)
	}
	args := append(right, "--parallel", "--parallel-immediate", "--parallel-max", "6")
	for range 24 {
		args = append(args, "-o", "/dev/null", "-w", "%{http_code}\n", page)
	}
	if got := curl(t, args...); strings.Count(got, "200\n") != 24 {
		t.Errorf("24 at once: %s", got)
	}
	if n := w.failed.Load(); n != 1 {
		t.Errorf("%d failed, want the one guess", n)
	}
}

// A WebSocket opens behind the guard and carries what it likes.
func TestWebSocketIsWatched(t *testing.T) {
	t.Parallel()
	w := watchIt(t, "http", script(t, "testdata/wsd.py", "serve", theUser, thePassword))
	out, err := exec.Command("/usr/bin/python3", "testdata/wsd.py", "talk", "ws://"+theUser+":"+thePassword+"@"+w.address+"/").CombinedOutput()
	if err != nil || string(out) != "echoed\n" {
		t.Errorf("%v\n%s", err, tail(out))
	}
}

// ffmpeg and ffprobe play a camera that asks for a password, by Digest as by Basic.
func TestPlayersAreWatched(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"basic", "digest"} {
		t.Run(method, func(t *testing.T) {
			w := watchIt(t, "rtsp", rtspServer(t, method, thePassword))
			play := func(program, password string, args ...string) (string, error) {
				ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
				defer cancel()
				url := "rtsp://" + theUser + ":" + password + "@" + w.address + "/live"
				all := append([]string{"-v", "error", "-analyzeduration", "500000", "-rtsp_transport", "tcp", "-i", url}, args...)
				out, err := exec.CommandContext(ctx, testnet.Program(t, program), all...).CombinedOutput()
				return string(out), err
			}
			if out, err := play("ffprobe", "guess"); err == nil || w.failed.Load() == 0 || w.asker.Known() {
				t.Errorf("a guess: %v, %d failed\n%s", err, w.failed.Load(), out)
			}
			guessed := w.failed.Load()
			if out, err := play("ffprobe", thePassword, "-show_entries", "stream=codec_name,width,height", "-of", "csv"); err != nil || !strings.Contains(out, "mjpeg,160,120") {
				t.Errorf("ffprobe: %v\n%s", err, out)
			}
			if out, err := play("ffmpeg", thePassword, "-frames:v", "3", "-f", "framemd5", "-"); err != nil || !strings.Contains(out, "160x120") {
				t.Errorf("ffmpeg: %v\n%s", err, out)
			}
			if !w.asker.Known() || w.failed.Load() != guessed {
				t.Errorf("known %v, %d failed, want the %d of the guess", w.asker.Known(), w.failed.Load(), guessed)
			}
		})
	}
}
