package reach

import (
	"bufio"
	"crypto/ed25519"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A baseNode is a node of a basestation on real sockets of loopback: attach.Node with
// a loop for UDP and one for each stream.
type baseNode struct {
	t       testing.TB
	within  func(func() error) error // opens sockets where the node is
	at      netip.AddrPort           // UDP and TCP
	root    *identity.Key
	deaf    bool // guarded by mu: datagrams to the node are dropped
	mute    bool // guarded by mu: datagrams from the node are dropped
	began   time.Time
	udp     *net.UDPConn
	tcp     net.Listener
	running sync.WaitGroup

	mu       sync.Mutex
	node     *attach.Node
	conns    map[netip.AddrPort]net.Conn
	accepted int
	stopNow  func()
	events   []attach.NodeEvent
	messages []attach.Kind
}

// nodeKeys are those of a node that keeps them over a restart.
type nodeKeys struct {
	root    *identity.Key
	private attach.Secret
}

func newNodeKeys(t testing.TB) nodeKeys {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := identity.New(private)
	if err != nil {
		t.Fatal(err)
	}
	return nodeKeys{root: root, private: attach.Secret{7}}
}

func (k nodeKeys) roots() []attach.Root {
	return []attach.Root{{Key: k.root.Public().(ed25519.PublicKey)}}
}

func (k nodeKeys) certificate(t testing.TB, at netip.AddrPort) []byte {
	t.Helper()
	public, err := attach.PublicKey(k.private)
	if err != nil {
		t.Fatal(err)
	}
	c, err := attach.SignCertificate(k.root, attach.Certificate{Generation: 1, Key: public, Addresses: []netip.AddrPort{at}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// startNode listens at an address of loopback, port 0 for any; change may alter the
// configuration. It is stopped at the end of the test, or by stop.
func startNode(t testing.TB, k nodeKeys, at string, change func(*attach.NodeConfig)) *baseNode {
	t.Helper()
	return startNodeWithin(t, func(do func() error) error { return do() }, k, at, change)
}

func startNodeWithin(t testing.TB, within func(func() error) error, k nodeKeys, at string, change func(*attach.NodeConfig)) *baseNode {
	t.Helper()
	b := &baseNode{t: t, within: within, root: k.root, began: time.Now(), conns: map[netip.AddrPort]net.Conn{}}
	b.listen(at)
	c := attach.NodeConfig{
		PrivateKey: k.private, Certificate: k.certificate(t, b.at), ResetKey: attach.Secret{9},
		Send: b.send,
		Ask: func(now time.Duration, r *attach.Request) {
			if err := b.node.Answer(now, r.Index, attach.CodeAccepted); err != nil {
				t.Error(err)
			}
		},
		Event:   func(e attach.NodeEvent) { b.events = append(b.events, e) },
		Message: func(_ time.Duration, _ attach.Peer, k attach.Kind, _ []byte) { b.messages = append(b.messages, k) },
		Unix:    func() uint64 { return 1_800_000_000 },
	}
	if change != nil {
		change(&c)
	}
	var err error
	if b.node, err = attach.NewNode(c); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	b.running.Go(b.readUDP)
	b.running.Go(b.accept)
	b.running.Go(func() { b.tick(done) })
	var once sync.Once
	stop := func() {
		once.Do(func() {
			close(done)
			b.udp.Close()
			b.tcp.Close()
			b.mu.Lock()
			for _, c := range b.conns {
				c.Close()
			}
			b.mu.Unlock()
			b.running.Wait()
		})
	}
	b.stopNow = stop
	t.Cleanup(stop)
	return b
}

// listen takes the same port for UDP and TCP.
func (b *baseNode) listen(at string) {
	b.t.Helper()
	var err error
	for range 20 {
		if err = b.within(func() error { return b.tryListen(at) }); err == nil {
			return
		}
	}
	b.t.Fatal(err)
}

func (b *baseNode) tryListen(at string) error {
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	b.at = netip.MustParseAddrPort(tcp.Addr().String())
	if b.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(b.at)); err != nil {
		tcp.Close()
		return err
	}
	b.tcp = tcp
	return nil
}

func (b *baseNode) now() time.Duration { return time.Since(b.began) }

func (b *baseNode) readUDP() {
	buf := make([]byte, 2048)
	for {
		n, from, err := b.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		b.mu.Lock()
		if !b.deaf {
			b.node.Receive(b.now(), from, buf[:n])
		}
		b.mu.Unlock()
	}
}

func (b *baseNode) accept() {
	for n := uint64(1); ; n++ {
		conn, err := b.tcp.Accept()
		if err != nil {
			return
		}
		at := attach.StreamAddr(n)
		b.mu.Lock()
		b.accepted++
		b.conns[at] = conn
		b.mu.Unlock()
		b.running.Go(func() { b.readStream(at, conn) })
	}
}

func (b *baseNode) readStream(at netip.AddrPort, conn net.Conn) {
	defer func() {
		conn.Close()
		b.mu.Lock()
		delete(b.conns, at)
		b.node.Lost(b.now(), at)
		b.mu.Unlock()
	}()
	k, err := attach.ReadStreamKind(conn)
	if err != nil || k != attach.StreamAttach {
		return
	}
	if _, err := attach.ReadPreface(conn, k); err != nil {
		return
	}
	b.mu.Lock()
	b.node.Opened(at, netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr())
	b.mu.Unlock()
	r, buf := bufio.NewReader(conn), make([]byte, attach.MaxPacket)
	for {
		p, err := attach.ReadPacket(r, buf)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.node.Receive(b.now(), at, p)
		b.mu.Unlock()
	}
}

// send is called with mu held, as everything of the node is.
func (b *baseNode) send(to netip.AddrPort, packet []byte) {
	if attach.IsStream(to) {
		if c := b.conns[to]; c != nil {
			_, _ = c.Write(attach.AppendPacket(nil, packet))
		}
		return
	}
	if !b.deaf && !b.mute {
		_, _ = b.udp.WriteToUDPAddrPort(packet, to)
	}
}

func (b *baseNode) tick(done <-chan struct{}) {
	t := time.NewTicker(attach.TickEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			b.mu.Lock()
			b.node.Tick(b.now())
			b.mu.Unlock()
		case <-done:
			return
		}
	}
}

// deafen drops datagrams from now on, or no more.
func (b *baseNode) deafen(deaf bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deaf = deaf
}

// device returns the peer with a key, if it is attached.
func (b *baseNode) device(k *identity.Key) (attach.Peer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.node.Device(k.Fingerprint())
}

func (b *baseNode) streamsTaken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}
