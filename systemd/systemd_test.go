package systemd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// envChild makes the test binary act as a service that systemd passed sockets to.
const envChild = "KEYHOLE_TEST_SOCKETS"

func TestMain(m *testing.M) {
	if os.Getenv(envChild) != "" {
		os.Exit(describeSockets())
	}
	goleak.VerifyTestMain(m)
}

// manager is the socket that systemd would listen on.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 4096)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("nothing came: %v", err)
	}
	return string(buf[:n])
}

func TestNotifier(t *testing.T) {
	c := manager(t)
	n := &Notifier{}
	for _, step := range []struct {
		do   func()
		want string // regular expression
	}{
		{func() { n.Ready("serving 2 services") }, `^READY=1\nSTATUS=serving 2 services$`},
		{func() { n.Status("waiting for discovery") }, `^STATUS=waiting for discovery$`},
		{n.Reloading, `^RELOADING=1\nMONOTONIC_USEC=[0-9]+$`},
		{func() { n.Ready("") }, `^READY=1$`},
		{func() { n.Stopping("draining") }, `^STOPPING=1\nSTATUS=draining$`},
		{func() { n.Status("name\nREADY=1\x7f") }, `^STATUS=name READY=1 $`},
	} {
		step.do()
		if got := receive(t, c); !regexp.MustCompile(step.want).MatchString(got) {
			t.Errorf("got %q, want %s", got, step.want)
		}
	}
}

func TestNotifierWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var log bytes.Buffer
	n := &Notifier{Log: slog.New(slog.NewTextHandler(&log, nil))}
	n.Ready("x")
	if log.Len() > 0 {
		t.Errorf("logged %q", log.String())
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	n.Ready("x")
	if !strings.Contains(log.String(), "systemd was not told") {
		t.Errorf("a message that was lost is logged as %q", log.String())
	}
}

// The watchdog speaks as long as the check passes, and is silent otherwise.
func TestWatchdog(t *testing.T) {
	c := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "")
	results := make(chan error)
	checked := make(chan struct{})
	w, err := NewWatchdog(func(ctx context.Context) error {
		select {
		case err := <-results:
			checked <- struct{}{}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-w.Ready()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	step := func(err error) { results <- err; <-checked }
	step(errors.New("a lock is held"))
	step(errors.New("still"))
	if err := c.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 64)); err == nil {
		t.Errorf("%d bytes were sent although the check failed", n)
	}
	step(nil)
	if got := receive(t, c); got != "WATCHDOG=1" {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestWatchdogOfOthers(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "1")
	w, err := NewWatchdog(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil { // must not call the nil check
		t.Error(err)
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := NewWatchdog(nil, nil); err == nil {
		t.Error("WATCHDOG_USEC=soon was understood")
	}
}

// describeSockets is the child's part of TestTakeSockets.
func describeSockets() int {
	s, err := TakeSockets()
	if err != nil {
		os.Stdout.WriteString("error: " + err.Error())
		return 0
	}
	defer s.Close()
	var words []string
	for _, l := range s.TCP {
		words = append(words, "tcp "+l.Addr().String())
	}
	for _, c := range s.UDP {
		words = append(words, "udp "+c.LocalAddr().String())
	}
	if s.Control != nil {
		words = append(words, "control "+s.Control.Addr().String())
	}
	words = append(words, "env:"+os.Getenv("LISTEN_FDS")+os.Getenv("LISTEN_PID"))
	again, err := TakeSockets()
	if err != nil || again.Any() || again.Control != nil {
		words = append(words, "and again")
	}
	os.Stdout.WriteString(strings.Join(words, "; "))
	return 0
}

// child starts this binary as systemd would: sockets from descriptor 3 on, and
// LISTEN_PID its own process, which the shell knows.
func child(t *testing.T, files ...*os.File) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"=1", "LISTEN_FDS="+string(rune('0'+len(files))), "LISTEN_FDNAMES=a:b:c:d")
	cmd.ExtraFiles = files
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

type filer interface{ File() (*os.File, error) }

func fileOf(t *testing.T, l any) *os.File {
	t.Helper()
	f, err := l.(filer).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestTakeSockets(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	got := child(t, fileOf(t, udp), fileOf(t, unix), fileOf(t, tcp))
	want := "tcp " + tcp.Addr().String() + "; udp " + udp.LocalAddr().String() + "; control " + path + "; env:"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the child removed systemd's socket: %v", err)
	}
	if got := child(t); got != "env:" {
		t.Errorf("without sockets: %q", got)
	}
}

func TestTakeSocketsRefusesOtherKinds(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	gram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "g"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer gram.Close()
	got := child(t, r, fileOf(t, gram))
	for _, want := range []string{`socket "a" from systemd: not a socket`, `socket "b" from systemd: a datagram socket of kind unixgram`} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}

// keep is a handler that remembers what the journal would get.
type keep struct{ records *[]slog.Record }

func (k keep) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (k keep) Handle(_ context.Context, r slog.Record) error {
	*k.records = append(*k.records, r)
	return nil
}
func (k keep) WithAttrs([]slog.Attr) slog.Handler { return k }
func (k keep) WithGroup(string) slog.Handler      { return k }

func TestJournalMessagesCarryTheirFields(t *testing.T) {
	var records []slog.Record
	log := slog.New(newJournalHandler(keep{&records})).With("user", "alice")
	log.Info("tunnel ended", "service", "rtsp", slog.Group("bytes", "up", 10))
	log.Debug("unseen")
	log.WithGroup("g").Info("plain", "msg", "x y")
	var got []string
	for _, r := range records {
		got = append(got, r.Message)
	}
	want := []string{`tunnel ended user=alice service=rtsp bytes.up=10`, `plain user=alice g.msg="x y"`}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFieldName(t *testing.T) {
	for key, want := range map[string]string{
		"user": "KEYHOLE_USER", "MESSAGE": "KEYHOLE_MESSAGE", "_PID": "KEYHOLE__PID", "a.b é": "KEYHOLE_A_B__",
		"KEYHOLE_X": "KEYHOLE_X", strings.Repeat("x", 80): "KEYHOLE_" + strings.Repeat("X", 56),
	} {
		if got := fieldName(key); got != want {
			t.Errorf("fieldName(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestTextHasNoTimeUnderSystemd(t *testing.T) {
	for _, bare := range []bool{true, false} {
		var out bytes.Buffer
		slog.New(textHandler(&out, slog.LevelInfo, bare)).Info("hello", "k", 1)
		if strings.HasPrefix(out.String(), "time=") == bare || !strings.Contains(out.String(), "msg=hello k=1") {
			t.Errorf("bare %v: %q", bare, out.String())
		}
	}
}
