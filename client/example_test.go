package client_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

// An app pairs once, by the button of the device.
func ExampleHome_Pair() {
	ctx := context.Background()
	front := startExampleDevice()
	defer front.stop()
	home, err := client.Open(front.newDir())
	if err != nil {
		fmt.Println(err)
		return
	}

	front.press() // a person presses the pair button
	paired, err := home.Pair(ctx, front.address, client.PairOptions{
		User: "Alice", Name: "Alice's phone",
		Check: func(d client.Digits) error {
			// Show d.Check.Grouped() now: the person compares and presses again.
			fmt.Println(d.Device, "asks to compare", len(d.Check), "digits")
			front.pressWhenAsked()
			return nil
		},
		Dial: client.DialOptions{Find: -1},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("paired as", paired.Device.User+";", "compared:", paired.Device.Checked)
	// Output:
	// Front door asks to compare 6 digits
	// paired as Alice; compared: false
}

// A service is a net.Conn.
func ExampleConn_Connect() {
	ctx := context.Background()
	home, stop := examplePaired()
	defer stop()

	conn, err := home.Dial(ctx, "Front door", client.DialOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	stream, err := conn.Connect(ctx, "greeter", "tcp")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close()
	line, _ := bufio.NewReader(stream).ReadString('\n')
	fmt.Print(line)
	// Output: hello from behind the door
}

// A Conn is an http.RoundTripper for the device's API.
func ExampleConn_RoundTrip() {
	ctx := context.Background()
	home, stop := examplePaired()
	defer stop()

	conn, err := home.Dial(ctx, "Front door", client.DialOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	web := &http.Client{Transport: conn}
	response, err := web.Get("https://device/v1/services") // any host: the session leads to one device
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	fmt.Print(string(body))
	// Output: {"services":[{"name":"greeter","type":"tcp","port":0,"allowed":true},{"name":"web","type":"http","port":80,"allowed":true}]}
}

// A Forward gives a service a local port that lives as long as its context; a
// Line lets it outlive the session.
func ExampleNewForward() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	home, stop := examplePaired()
	defer stop()

	conn, err := home.Dial(ctx, "Front door", client.DialOptions{Tunnels: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	line := client.KeepUp(conn, client.DialOptions{Tunnels: true}, nil)
	port, err := client.NewForward(line, api.Service{Name: "web", Type: "http", Port: 80}, client.ForwardOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	over := make(chan error, 2)
	go func() { over <- line.Run(ctx) }()
	go func() { over <- port.Run(ctx) }()

	response, err := http.Get(port.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	fmt.Print(string(body))
	cancel()
	fmt.Println(<-over, <-over)
	// Output:
	// a picture
	// <nil> <nil>
}

// What follows is the device that the examples talk to: on a board it is keyholed.

func examplePaired() (home *client.Home, stop func()) {
	d := startExampleDevice()
	home, err := client.Open(d.newDir())
	must(err)
	must(home.Remember(client.Device{Fingerprint: d.key.Fingerprint(), Name: "Front door", Addresses: []string{d.address}, Checked: true}))
	return home, d.stop
}

type exampleDevice struct {
	key     *identity.Key
	address string
	server  *session.Server
	bridge  *tunnel.Bridge
	window  *pairing.Window
	closers []func()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func startExampleDevice() *exampleDevice {
	d := &exampleDevice{bridge: tunnel.NewBridge(tunnel.Config{})}
	var err error
	d.key, err = identity.Generate()
	must(err)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a picture") }))
	greeter, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() {
		for {
			c, err := greeter.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "hello from behind the door")
			c.Close()
		}
	}()
	first, err := tunnel.ParseService("greeter", "tcp", greeter.Addr().String(), "")
	must(err)
	second, err := tunnel.ParseService("web", "http", strings.TrimPrefix(web.URL, "http://"), "")
	must(err)
	table, err := tunnel.NewTable([]tunnel.Service{first, second}, nil)
	must(err)
	d.bridge.SetServices(table)
	d.window, err = pairing.New(pairing.Config{Modes: []string{"button"}, Device: d.key.Fingerprint(), Granter: d, Counter: d, Changed: func(pairing.State) {}})
	must(err)
	d.server = session.NewServer(session.Config{Key: d.key, Handler: d})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	d.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- d.server.ServeTCP(l) }()
	d.closers = append(d.closers, func() { _ = d.server.Close(); <-served }, func() { _ = d.bridge.Close() }, web.Close, func() { _ = greeter.Close() })
	return d
}

func (d *exampleDevice) newDir() string {
	dir, err := os.MkdirTemp("", "keyhole-example-")
	must(err)
	d.closers = append(d.closers, func() { _ = os.RemoveAll(dir) })
	return dir
}

func (d *exampleDevice) stop() {
	for _, f := range d.closers {
		f()
	}
}

func (d *exampleDevice) press() { d.window.Press() }

// Fatalf lets it wait like a test.
func (d *exampleDevice) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (d *exampleDevice) pressWhenAsked() {
	go func() {
		testnet.Until(d, "digits on the device", func() bool { return d.window.State().Asking != nil })
		d.window.Press()
	}()
}

func (d *exampleDevice) Load() (int, error) { return 0, nil }
func (d *exampleDevice) Store(int) error    { return nil }

func (d *exampleDevice) Grant(_ context.Context, r pairing.Request) (pairing.Granted, error) {
	return pairing.Granted{User: r.User, Role: "owner"}, nil
}

func (d *exampleDevice) caller(s *session.Session) pairing.Caller {
	exporter, err := s.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	must(err)
	return pairing.Caller{Fingerprint: s.Peer(), Exporter: exporter, Local: true, TCP: true}
}

func (d *exampleDevice) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller := d.caller(session.FromRequest(r))
	switch r.URL.Path {
	case "/v1/hello":
		api.WriteJSON(w, api.Hello{Protocol: 1, ID: d.key.ID(), Pairing: api.Offer{Open: true, Modes: []string{"button"}}})
	case "/v1/services":
		var list api.Services
		for _, s := range d.bridge.Services().All() {
			list.Services = append(list.Services, api.Service{Name: s.Name, Type: s.Type.Name, Port: int(s.Type.Port), Allowed: true})
		}
		api.WriteJSON(w, list)
	case "/v1/pair/button":
		var body api.ButtonBegin
		must(api.DecodeRequest(w, r, &body))
		commitment, _ := hex.DecodeString(body.Commitment)
		reply, err := d.window.Begin(r.Context(), caller, pairing.BeginRequest{Name: body.Name, User: body.User, Commitment: commitment})
		must(err)
		api.WriteJSON(w, api.ButtonChallenge{Exchange: reply.Exchange, Nonce: hex.EncodeToString(reply.Nonce), Device: "Front door"})
	case "/v1/pair/button/reveal":
		var body api.ButtonReveal
		must(api.DecodeRequest(w, r, &body))
		nonce, _ := hex.DecodeString(body.Nonce)
		granted, err := d.window.Reveal(r.Context(), caller, pairing.RevealRequest{Exchange: body.Exchange, Nonce: nonce})
		must(err)
		api.WriteJSON(w, api.Paired{User: granted.User, Role: granted.Role, Device: api.Device{Name: "Front door"}})
	default:
		s, known := d.bridge.Services().Lookup(r.Host)
		t, err := d.bridge.Open(r.Context(), tunnel.Meta{}, s)
		if !known || err != nil {
			http.NotFound(w, r)
			return
		}
		if stream, err := session.Accept(w, r); err == nil {
			t.Run(context.WithoutCancel(r.Context()), stream)
		}
	}
}
