package main

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

// roomy is more than any measurement opens.
const roomy = 5000

// keyholeDevice is what the daemon does with a CONNECT, without its access
// list: a session server on TCP and UDP, and the bridge.
func keyholeDevice(target, at string) (string, string, error) {
	key, err := identity.Generate()
	if err != nil {
		return "", "", err
	}
	service, err := tunnel.ParseService("bench", "tcp", target, "")
	if err != nil {
		return "", "", err
	}
	table, err := tunnel.NewTable([]tunnel.Service{service}, nil)
	if err != nil {
		return "", "", err
	}
	bridge := tunnel.NewBridge(tunnel.Config{PerPeer: roomy, Total: roomy})
	bridge.SetServices(table)
	server := session.NewServer(session.Config{
		Key:     key,
		Known:   func(identity.Fingerprint) bool { return true },
		Limits:  session.Limits{Paired: roomy, PerKey: roomy},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { connect(bridge, service, w, r) }),
	})
	if at != "" {
		return "-", key.Fingerprint().String(), acceptLegs(at, func(leg net.Conn) { server.ServeConn(leg, session.ViaRelay) })
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort()))
	if err != nil {
		return "", "", err
	}
	go server.ServeTCP(l)
	go server.ServeQUIC(udp)
	return l.Addr().String(), key.Fingerprint().String(), nil
}

func connect(bridge *tunnel.Bridge, service tunnel.Service, w http.ResponseWriter, r *http.Request) {
	name, err := tunnel.ParseAuthority(r.Host)
	if err != nil || name != service.Name {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	s := session.FromRequest(r)
	opened, err := bridge.Open(r.Context(), tunnel.Meta{Peer: s.Peer().String(), Path: string(s.Info().Path)}, service)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	stream, err := session.Accept(w, r)
	if err != nil {
		opened.Close()
		return
	}
	opened.Run(r.Context(), stream)
}

// keyholeClient is what the client program does for a local port. Extra is the
// path and the device's fingerprint.
func keyholeClient(target, extra string) (string, string, error) {
	path, pin, _ := strings.Cut(extra, " ")
	key, err := identity.Generate()
	if err != nil {
		return "", "", err
	}
	device, err := identity.ParseFingerprint(pin)
	if err != nil {
		return "", "", err
	}
	client, err := dialKeyhole(path, target, session.DialConfig{Key: key, Pin: identity.PinFingerprint(device)})
	if err != nil {
		return "", "", err
	}
	address, err := listen(func(in *net.TCPConn) { forward(background, client, in) })
	return address, "", err
}

// relayWarm is how many connections wait for bulk tunnels where each costs a
// leg: as many as the benchmark has tunnels at once.
const relayWarm = 8

func dialKeyhole(path, target string, c session.DialConfig) (*session.Client, error) {
	if path == "relay" {
		open, err := openLegs(target)
		if err != nil {
			return nil, err
		}
		c.WarmConns = relayWarm
		return session.DialConn(background, open, session.ViaRelay, c)
	}
	c.Paths = []session.Path{session.Path(path)}
	return session.Dial(background, []string{target}, c)
}

func forward(ctx context.Context, client *session.Client, in *net.TCPConn) {
	stream, err := client.Connect(ctx, "bench", true)
	if err != nil {
		in.Close()
		return
	}
	tunnel.Pump{}.Run(ctx, in, stream)
}
