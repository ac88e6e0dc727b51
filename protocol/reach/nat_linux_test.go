package reach

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// peerVariable makes this test binary a peer that is told what to try, one line
// each:
//
//	udp ID                 -> ID at ADDRESS      a new socket, seen by the base
//	tcp ID                 -> ID at ADDRESS      a new listener
//	go ID ADDRESS,... device|client WAIT -> ID met TIME ADDRESS | ID no
const peerVariable = "KEYHOLE_REACH_PEER"

const observerPort = ":7443"

func TestPeerProcess(t *testing.T) {
	if os.Getenv(peerVariable) == "" {
		return // only other tests want one
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("> "+format+"\n", args...)
	}
	var peers sync.Map
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		id := words[1]
		switch words[0] {
		case "udp", "tcp":
			go func() {
				p, err := newPeer(t.Context(), words[0])
				if err != nil {
					say("%s at - %v", id, err)
					return
				}
				peers.Store(id, p)
				say("%s at %s", id, p.seen())
			}()
		case "go":
			p, _ := peers.Load(id)
			go func() {
				wait, _ := time.ParseDuration(words[4])
				time.Sleep(wait)
				began := time.Now()
				at, ok := p.(peer).meet(t.Context(), aps(strings.Split(words[2], ",")...), words[3] == "device")
				if !ok {
					say("%s no", id)
					return
				}
				say("%s met %s %s", id, time.Since(began).Round(time.Millisecond), at)
			}()
		}
	}
}

type peer interface {
	seen() netip.AddrPort
	meet(ctx context.Context, others []netip.AddrPort, device bool) (at netip.AddrPort, ok bool)
}

func newPeer(ctx context.Context, network string) (peer, error) {
	if network == "tcp" {
		return newTCPPeer(ctx)
	}
	return newUDPPeer()
}

type udpPeer struct {
	conn *net.UDPConn
	at   netip.AddrPort
}

func newUDPPeer() (*udpPeer, error) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 100)
	for range 3 { // a busy machine may drop one
		_, _ = conn.WriteToUDPAddrPort([]byte("?"), netip.MustParseAddrPort(testnet.BaseAddress+observerPort))
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		var n int
		if n, _, err = conn.ReadFromUDPAddrPort(buf); err == nil {
			_ = conn.SetReadDeadline(time.Time{})
			at, err := netip.ParseAddrPort(string(buf[:n]))
			return &udpPeer{conn, at}, err
		}
	}
	conn.Close()
	return nil, err
}

func (u *udpPeer) seen() netip.AddrPort { return u.at }

func (u *udpPeer) WriteTo(p []byte, to netip.AddrPort) error {
	_, err := u.conn.WriteToUDPAddrPort(p, to)
	return err
}

func (u *udpPeer) meet(ctx context.Context, others []netip.AddrPort, device bool) (netip.AddrPort, bool) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	p := NewPuncher(u, nil)
	found := p.Punch(ctx, [32]byte{3}, others)
	go func() {
		buf := make([]byte, attach.MaxPacket)
		for {
			n, from, err := u.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			p.Deliver(from, buf[:n])
		}
	}()
	at, ok := <-found
	return at, ok
}

type tcpPeer struct {
	listener net.Listener
	observed net.Conn
	at       netip.AddrPort
	accepted chan net.Conn
}

func newTCPPeer(ctx context.Context) (*tcpPeer, error) {
	l, err := ListenReusable(ctx, "tcp4", ":0")
	if err != nil {
		return nil, err
	}
	p := &tcpPeer{listener: l, accepted: make(chan net.Conn)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.accepted <- conn
		}
	}()
	p.at, p.observed, err = Observe(ctx, l.Addr().(*net.TCPAddr).Port, netip.MustParseAddrPort(testnet.BaseAddress+observerPort))
	return p, err
}

func (p *tcpPeer) seen() netip.AddrPort { return p.at }

// meet greets over each connection as TLS would: the client speaks first.
func (p *tcpPeer) meet(ctx context.Context, others []netip.AddrPort, device bool) (at netip.AddrPort, ok bool) {
	defer p.observed.Close()
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	for conn := range MeetTCP(ctx, p.listener.Addr().(*net.TCPAddr).Port, others, p.accepted) {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		if greet(conn, device) == nil {
			return conn.RemoteAddr().(*net.TCPAddr).AddrPort(), true
		}
	}
	return at, false
}

func greet(conn net.Conn, device bool) error {
	buf := []byte("hello")
	if device {
		if _, err := io.ReadFull(conn, buf); err != nil {
			return err
		}
	}
	if _, err := conn.Write(buf); err != nil || device {
		return err
	}
	_, err := io.ReadFull(conn, buf)
	return err
}

// observe is what a basestation does for peers, on the test's side.
func observe(t *testing.T, base *testnet.Namespace) {
	t.Helper()
	udp := base.ListenUDP(t, 7443)
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteToUDPAddrPort([]byte(from.String()), from)
		}
	}()
	var l net.Listener
	if err := base.Within(func() (err error) {
		l, err = net.Listen("tcp4", observerPort)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// Whose namespace is gone says no goodbye: what is left ends with the test.
	var running sync.WaitGroup
	over, end := context.WithCancel(context.Background())
	t.Cleanup(func() {
		end()
		l.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer context.AfterFunc(over, func() { conn.Close() })()
				defer conn.Close()
				kind, err := attach.ReadStreamKind(conn)
				if err != nil || kind != attach.StreamObserve {
					return
				}
				if _, err := attach.ReadPreface(conn, kind); err != nil {
					return
				}
				_, _ = conn.Write(attach.AppendSeen(nil, conn.RemoteAddr().(*net.TCPAddr).AddrPort()))
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
}

// A remote is a peer process in a home.
type remote struct {
	in io.Writer

	mu      sync.Mutex
	answers map[string]chan string // by trial
}

func startPeer(t *testing.T, where *testnet.Namespace) *remote {
	t.Helper()
	cmd := where.Command(os.Args[0], "-test.run=^TestPeerProcess$", "-test.v")
	cmd.Env = append(os.Environ(), peerVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	testnet.Start(t, cmd)
	r := &remote{in: in, answers: map[string]chan string{}}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			line, ok := strings.CutPrefix(lines.Text(), "> ")
			if id, rest, both := strings.Cut(line, " "); ok && both {
				r.answer(id) <- rest
			}
		}
	}()
	return r
}

func (r *remote) answer(id string) chan string {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.answers[id]
	if !ok {
		c = make(chan string, 2)
		r.answers[id] = c
	}
	return c
}

// ask tells the peer something about a trial and waits for what it says; a trial
// is the second word.
func (r *remote) ask(line string) string {
	r.tell(line)
	return <-r.answer(strings.Fields(line)[1])
}

func (r *remote) tell(line string) {
	r.mu.Lock()
	_, _ = fmt.Fprintln(r.in, line)
	r.mu.Unlock()
}

// Every pair of kinds of routers, by UDP and by TCP: peers meet wherever theory
// lets them.
//
//	6 homes with a device ─┐            ┌─ 6 homes with a client
//	one of each kind       └─ internet ─┘
//	                             │
//	                       base: tells where it sees whom
func TestNATMatrix(t *testing.T) {
	testnet.Root(t)
	internet := testnet.NewInternet(t)
	observe(t, internet.Base)
	var devices, clients []*remote
	for _, kind := range testnet.NATs {
		devices = append(devices, startPeer(t, internet.Home(t, kind).Host))
		clients = append(clients, startPeer(t, internet.Home(t, kind).Host))
	}
	for _, c := range []struct {
		network string
		late    time.Duration // the client hears of it later than the device
	}{{"udp", 0}, {"tcp", 0}, {"udp", 500 * time.Millisecond}, {"tcp", 500 * time.Millisecond}} {
		network := c.network
		t.Run(fmt.Sprintf("%s, client %v later", network, c.late), func(t *testing.T) {
			var cells [6][6]string
			var trials sync.WaitGroup
			for i := range testnet.NATs {
				for j := range testnet.NATs {
					trials.Go(func() {
						cells[i][j] = trial(network, fmt.Sprintf("%s%v-%d%d", network, c.late, i, j), c.late, devices[i], clients[j])
					})
				}
			}
			trials.Wait()
			judge(t, network, cells)
		})
	}
}

// trial has two peers meet and tells how: "12ms/15ms" for device and client, or
// "-".
func trial(network, id string, late time.Duration, device, client *remote) string {
	device.tell(network + " " + id)
	c := client.ask(network + " " + id)
	d := <-device.answer(id)
	seenD, seenC := strings.Fields(d)[1], strings.Fields(c)[1]
	if seenD == "-" || seenC == "-" {
		return "-"
	}
	device.tell("go " + id + " " + seenC + " device 0s")
	c = client.ask("go " + id + " " + seenD + " client " + late.String())
	d = <-device.answer(id)
	if d == "no" || c == "no" {
		return "-"
	}
	return strings.Fields(d)[1] + "/" + strings.Fields(c)[1]
}

func judge(t *testing.T, network string, cells [6][6]string) {
	t.Helper()
	table := fmt.Sprintf("%s, time until met at device/client\n%-16s", network, "device \\ client")
	for _, kind := range testnet.NATs {
		table += fmt.Sprintf("%-17s", kind)
	}
	for i, a := range testnet.NATs {
		table += fmt.Sprintf("\n%-16s", a)
		for j, b := range testnet.NATs {
			met := cells[i][j] != "-"
			table += fmt.Sprintf("%-17s", cells[i][j])
			if yes, known := testnet.Meet(network, a, b); known && yes != met {
				t.Errorf("%s: %s and %s: met %v, theory says %v", network, a, b, met, yes)
			}
		}
	}
	t.Log(table)
}

// Over long lines, where a packet is on its way for longer than most time-outs of a
// LAN, and with a lost one here and there.
func TestMeetOverLongLines(t *testing.T) {
	testnet.Root(t)
	internet := testnet.NewInternet(t)
	observe(t, internet.Base)
	// Half of it one way, from one peer to the other.
	for _, round := range []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond} {
		line := testnet.Line{Delay: round / 4, Loss: 0.01}
		device, client := internet.Home(t, testnet.PortRestricted), internet.Home(t, testnet.PortRestricted)
		internet.Line(t, device, line)
		internet.Line(t, client, line)
		a, b := startPeer(t, device.Host), startPeer(t, client.Host)
		t.Run(round.String(), func(t *testing.T) {
			t.Parallel()
			for _, network := range []string{"udp", "tcp"} {
				took := trial(network, network+round.String(), 0, a, b)
				t.Logf("%s, round trip %v: met after %s", network, round, took)
				if took == "-" {
					t.Errorf("%s, round trip %v: not met", network, round)
				}
			}
		})
	}
}

// Two behind one router, which leads nothing back inside: they meet at their own
// addresses.
func TestMeetBehindOneRouter(t *testing.T) {
	testnet.Root(t)
	internet := testnet.NewInternet(t)
	observe(t, internet.Base)
	home := internet.Home(t, testnet.PortRestricted)
	device, client := startPeer(t, home.Host), startPeer(t, home.Join(t, 11))
	for _, network := range []string{"udp", "tcp"} {
		d, c := strings.Fields(device.ask(network + " " + network))[1], strings.Fields(client.ask(network + " " + network))[1]
		if ap(d).Addr() != home.Outside || ap(c).Addr() != home.Outside {
			t.Fatalf("%s: seen at %s and %s", network, d, c)
		}
		// No router in between changes a port here.
		inside := func(last, outside string) string {
			return strings.TrimSuffix(home.Inside.Addr().String(), "0") + last + ":" + strings.Split(outside, ":")[1]
		}
		device.tell("go " + network + " " + c + "," + inside("11", c) + " device 0s")
		met := client.ask("go " + network + " " + d + "," + inside("10", d) + " client 0s")
		if want := inside("10", d); !strings.HasSuffix(met, want) {
			t.Errorf("%s: client %s, want met at %s", network, met, want)
		}
		if met := <-device.answer(network); !strings.HasPrefix(met, "met") {
			t.Errorf("%s: device %s", network, met)
		}
	}
}
