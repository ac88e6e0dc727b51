package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/basestation"
	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/internal/testcam"
	"github.com/keyholed/keyhole/protocol/api"
)

// demoCommand shows everything on one machine: a basestation, a device with a
// simulated board, a test camera and a client, each as it is on its own, in one
// process.
func demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo [--once] [--relay-only | --no-basestation]",
		Short: "Show it all on this machine: press, pair, watch",
		Long: "Runs a basestation, a device with a simulated board, a test camera and a client on\n" +
			"this machine, from the press of the button to moving pictures. The client pairs\n" +
			"as if at home and watches as if it were away. Nothing is kept, and only loopback\n" +
			"addresses are used.",
		Example: "  keyhole demo --once --relay-only",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.relayOnly && o.noBasestation {
				return usagef(cmd, "the relay is the basestation's: --relay-only or --no-basestation")
			}
			return runDemo(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	cmd.Flags().BoolVar(&o.once, "once", false, "pair, connect, fetch a picture, check it, and end")
	cmd.Flags().BoolVar(&o.relayOnly, "relay-only", false, "watch through the basestation's relay, as where nothing else gets through")
	cmd.Flags().BoolVar(&o.noBasestation, "no-basestation", false, "watch as at home: no basestation runs")
	cmd.AddCommand(cameraCommand())
	return cmd
}

// cameraCommand is the camera of the demo alone, for trials with a real keyholed.
func cameraCommand() *cobra.Command {
	var o testcam.Options
	cmd := &cobra.Command{
		Use:     "camera",
		Short:   "Run the test camera alone",
		Example: "  keyhole demo camera --http 127.0.0.1:8099 --rtsp 127.0.0.1:8554",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			camera, err := testcam.Start(o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "http  http://%s/\nrtsp  %s\n", camera.HTTPAddr(), camera.URL())
			<-cmd.Context().Done()
			return camera.Close()
		},
	}
	cmd.Flags().StringVar(&o.HTTP, "http", "", "address for HTTP, 127.0.0.1 and a free port if not given")
	cmd.Flags().StringVar(&o.RTSP, "rtsp", "", "address for RTSP, 127.0.0.1 and a free port if not given")
	return cmd
}

type demoOptions struct{ once, relayOnly, noBasestation bool }

// A demo is what runs while `keyhole demo` does.
type demo struct {
	demoOptions
	out     io.Writer
	dir     string // removed at the end
	camera  *testcam.Camera
	base    *basestation.Server // nil without one
	device  *daemon.Daemon
	home    *client.Home
	conn    *client.Conn
	web     *client.Forward
	rtsp    *client.Forward
	started time.Time
}

func runDemo(ctx context.Context, out io.Writer, o demoOptions) (err error) {
	d := &demo{demoOptions: o, out: out, started: time.Now()}
	if d.dir, err = os.MkdirTemp("", "keyhole-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if d.camera, err = testcam.Start(testcam.Options{}); err != nil {
		return fmt.Errorf("test camera: %w", err)
	}
	defer func() { err = errors.Join(err, d.camera.Close()) }()
	d.say("A test camera films; nobody but its board can reach it.")

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if !o.noBasestation {
		ended, err := d.startBase(ctx)
		if err != nil {
			return err
		}
		defer func() { stop(); <-ended }()
	}
	ended, err := d.startDevice(ctx)
	if err != nil {
		return err
	}
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	paired, err := d.pair(ctx)
	if err != nil {
		return err
	}
	if err := d.dial(ctx, paired); err != nil {
		return err
	}
	defer d.conn.Close()
	if err := d.connect(ctx); err != nil {
		return err
	}
	return d.show(ctx)
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.2fs  %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, args...))
}

// startDevice runs keyholed in this process; ended gives its result.
func (d *demo) startDevice(ctx context.Context) (ended <-chan error, err error) {
	text := fmt.Sprintf(`
[device]
name = "Demo door"
product = "keyhole-demo"
listen = ["127.0.0.1:0"]
state = "state"
identity = "identity"
[[service]]
name = "web"
type = "http"
address = %q
[[service]]
name = "rtsp"
type = "rtsp"
address = %q
[board]
profile = "simulated"
web = "127.0.0.1:0"
%s`, d.camera.HTTPAddr(), d.camera.RTSPAddr(), d.baseConfig())
	cfg, err := config.Parse([]byte(text), filepath.Join(d.dir, "keyholed.toml"), config.Overrides{Socket: filepath.Join(d.dir, "keyholed.sock")})
	if err != nil {
		return nil, err
	}
	d.device, err = daemon.New(daemon.Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Quiet: true})
	if err != nil {
		return nil, err
	}
	result := make(chan error, 1)
	go func() { result <- d.device.Run(ctx) }()
	select {
	case <-d.device.Ready():
	case err := <-result:
		return nil, err
	}
	d.say("The device %s has made its key. Nobody may enter.", d.device.ID())
	return result, nil
}

// pair is what a person does: press, compare, press.
func (d *demo) pair(ctx context.Context) (client.Device, error) {
	home, err := client.Open(filepath.Join(d.dir, "laptop"))
	if err != nil {
		return client.Device{}, err
	}
	d.home = home
	d.say("Press: the pair button opens a window of three minutes.")
	if err := d.device.Press(ctx, "pair"); err != nil {
		return client.Device{}, err
	}
	pressed := make(chan error, 1)
	target := fmt.Sprintf("%s@127.0.0.1:%d", d.device.ID(), d.device.Port())
	paired, err := home.Pair(ctx, target, client.PairOptions{
		User: "Alice", Name: "Alice's laptop", Dial: client.DialOptions{Find: -1},
		Check: func(digits client.Digits) error {
			go func() { pressed <- d.confirm(ctx, digits) }()
			return nil
		},
	})
	if err != nil {
		return client.Device{}, fmt.Errorf("pair: %w", err)
	}
	if err := <-pressed; err != nil {
		return client.Device{}, err
	}
	d.say("Paired: the laptop is %s, %s.", paired.Device.User, paired.Device.Role)
	return paired.Device, nil
}

// confirm waits until the display shows the digits too, compares, and presses.
func (d *demo) confirm(ctx context.Context, digits client.Digits) error {
	tick := time.NewTicker(10 * time.Millisecond) // as a person looks: again and again
	defer tick.Stop()
	for {
		if asking := d.device.Status().Pairing.Asking; asking != nil {
			if asking.Check != string(digits.Check) {
				return fmt.Errorf("the display shows %s and the laptop %s: somebody is in between", asking.Check, digits.Check)
			}
			d.say("Compare: display and laptop both show %s. Press again.", digits.Check.Grouped())
			return d.device.Press(ctx, "pair")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *demo) connect(ctx context.Context) error {
	services, err := d.conn.Services(ctx)
	if err != nil {
		return err
	}
	for _, s := range services {
		f, err := client.NewForward(d.conn, s, client.ForwardOptions{})
		if err != nil {
			return err
		}
		go f.Run(ctx) // ends with ctx, which ends before runDemo does
		if s.Name == "web" {
			d.web = f
		} else {
			d.rtsp = f
		}
	}
	return nil
}

// show fetches a picture through the tunnel, and then lets people look.
func (d *demo) show(ctx context.Context) error {
	size, took, err := d.fetch(ctx)
	if err != nil {
		return err
	}
	d.say("A picture of %d bytes came through the tunnel in %.1f ms, and it is this camera's.", size, took.Seconds()*1000)
	if err := d.measure(ctx); err != nil {
		return err
	}
	d.tellRelay()
	if d.once {
		return nil
	}
	status := d.device.Status()
	fmt.Fprintf(d.out, `
  camera in a browser    %s
  camera in a player     ffplay %s
  front panel            %s
  the same key in curl   curl -k --cert %s https://127.0.0.1:%d/v1/device

Press Ctrl-C to end. What happens is told here:
`, d.web.URL(), d.rtsp.URL()+testcam.Path[1:], status.Board.Web, filepath.Join(d.home.Dir(), "identity.pem"), d.device.Port())
	return d.tell(ctx)
}

// fetch gets one picture over HTTP as a browser would, and looks for the mark
// of this very camera in it.
func (d *demo) fetch(ctx context.Context) (size int, took time.Duration, err error) {
	start := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.web.URL()+"frame.jpg", nil)
	if err != nil {
		return 0, 0, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	took = time.Since(start)
	if err != nil || answer.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("the camera answered %s: %w", answer.Status, err)
	}
	picture, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		return 0, 0, fmt.Errorf("no picture came: %w", err)
	}
	mark, err := testcam.ReadMark(picture)
	if err != nil {
		return 0, 0, err
	}
	if mark.Name != d.camera.Name() {
		return 0, 0, errors.New("the picture is another camera's")
	}
	return len(data), took, nil
}

// measure says how fast a new tunnel opens.
func (d *demo) measure(ctx context.Context) error {
	const rounds = 20
	start := time.Now()
	for range rounds {
		stream, err := d.conn.Connect(ctx, "web", "http")
		if err != nil {
			return err
		}
		if err := stream.Close(); err != nil {
			return err
		}
	}
	d.say("Opening a tunnel takes %.2f ms (mean of %d). Path: %s, TLS 1.3, both keys proven.",
		time.Since(start).Seconds()*1000/rounds, rounds, pathWords(d.conn))
	return nil
}

// tell prints what happens at the device until ctx ends.
func (d *demo) tell(ctx context.Context) error {
	events, err := d.conn.Events(ctx)
	if err != nil {
		return err
	}
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { events.Close() })
	defer stop()
	for {
		ev, err := events.Next()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		d.say("%s", eventWords(ev))
	}
}

func eventWords(ev api.Event) string {
	words := ev.Kind + " " + ev.What
	for _, more := range []string{ev.User, ev.Service, ev.Detail} {
		if more != "" {
			words += " " + more
		}
	}
	return words
}
