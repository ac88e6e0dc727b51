package attach

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A flood from one source is answered up to its limit, in bounded memory, and
// others are answered as before. Afterwards the source is served again.
func TestFloods(t *testing.T) {
	golden := goldenPackets(t)
	const perSecond = 50
	other := netip.MustParseAddrPort("203.0.113.8:8")
	for name, packet := range map[string][]byte{"LOCATE": golden["LOCATE"], "HELLO without a cookie": golden["HELLO"], "unknown index": golden["sealed"]} {
		w := newWorld(t, 80)
		w.nodeCfg.StrangersPerSecond = perSecond
		n, err := NewNode(w.nodeCfg)
		if err != nil {
			t.Fatal(err)
		}
		w.node = n
		answers := func(from netip.AddrPort, count int) int {
			before := len(w.flying)
			for range count {
				n.Receive(w.now, from, packet)
			}
			got := len(w.flying) - before
			w.flying = nil
			return got
		}
		if got, most := answers(stranger, 10_000), perSecond*burstSeconds+1; got > most {
			t.Errorf("%s: %d answers at once, want at most %d", name, got, most)
		}
		if got := answers(other, 10); got != 10 {
			t.Errorf("%s: another source gets %d of 10 answers", name, got)
		}
		w.now += 10 * time.Second
		if got := answers(stranger, 10); got != 10 {
			t.Errorf("%s: later it gets %d of 10 answers", name, got)
		}
		if n.Counts().Strangers == 0 {
			t.Errorf("%s: counted %+v", name, n.Counts())
		}
	}
}

// Handshakes and clients of one source are bounded although its address is proven.
func TestBusySource(t *testing.T) {
	w := newWorld(t, 81)
	w.nodeCfg.GreetingsPerSecond, w.nodeCfg.MaxClientsPerSource = 5, 3
	n, err := NewNode(w.nodeCfg)
	if err != nil {
		t.Fatal(err)
	}
	w.node, w.nodeCfg.Introduce = n, nil
	ip := netip.MustParseAddr("198.51.100.77")
	k := newKey(t)
	var links []*simLink
	for i := range uint16(6) {
		s := w.link(k, func(c *LinkConfig) { c.Introduce = &Introduce{Device: k.ID()} })
		s.ip, s.port = ip, 41000+i
		links = append(links, s)
	}
	w.run(3*time.Second, nil)
	if len(n.clients) != 3 || n.Counts().Clients == 0 {
		t.Errorf("%d clients of one source, want 3; %+v", len(n.clients), n.Counts())
	}
	for _, s := range links {
		s.Close(w.now)
	}
	w.run(10*time.Second, nil)
	if len(n.clients) != 0 || len(n.asking) != 0 || len(n.pending) != 0 {
		t.Errorf("%d clients, %d sources, %d handshakes after all have left", len(n.clients), len(n.asking), len(n.pending))
	}
	before := n.Counts().Greetings
	for i := range uint64(100) {
		p, _, err := greet(w.bytes, mustPublic(t, w.nodeKey), hello{version: version, index: i, cookie: n.cookies.issue(ip)})
		if err != nil {
			t.Fatal(err)
		}
		n.Receive(w.now, netip.AddrPortFrom(ip, 5), p)
	}
	if refused := n.Counts().Greetings - before; refused < 100-5*burstSeconds-1 {
		t.Errorf("%d of 100 handshakes refused", refused)
	}
}

// What of a client's question still fits when a node sends it on. The numbers are in
// docs/attach.md.
func TestWhatFits(t *testing.T) {
	v6 := netip.MustParseAddrPort("[2001:db8::1]:7443")
	v4 := netip.MustParseAddrPort("192.0.2.1:7443")
	all := func(a netip.AddrPort, n int) [][]byte {
		var list []netip.AddrPort
		for range n {
			list = append(list, a)
		}
		return EncodeAddresses(list)
	}
	for name, c := range map[string]struct {
		key, signature int
		candidates     [][]byte
		pass           int
		fits           bool
	}{
		"P-256, everything":                     {91, 72, all(v6, 8), 256, true},
		"Ed25519, everything":                   {44, 64, all(v6, 8), 256, true},
		"RSA 2048, everything":                  {294, 256, all(v6, 8), 256, true},
		"RSA 3072, 8 candidates":                {422, 384, all(v6, 8), 0, true},
		"RSA 3072, 4 candidates, pass of 100":   {422, 384, all(v6, 4), 100, true},
		"RSA 4096":                              {550, 512, nil, 0, true},
		"RSA 4096, 2 candidates of IPv4":        {550, 512, all(v4, 2), 0, true},
		"RSA 4096, 2 candidates of IPv6":        {550, 512, all(v6, 2), 0, false},
		"RSA 4096, pass of 32":                  {550, 512, nil, 32, false},
		"RSA 8192, which does not fit anywhere": {1062, 1024, nil, 0, false},
	} {
		i := &Introduce{PublicKey: make([]byte, c.key), Signature: make([]byte, c.signature), Candidates: c.candidates, Pass: make([]byte, c.pass),
			Device: identity.ID(strings.Repeat("a", 26))}
		if err := i.fits(); (err == nil) != c.fits || err != nil && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want it to fit: %v", name, err, c.fits)
		}
		if _, err := Encode(i); c.fits && err != nil {
			t.Errorf("%s as INTRODUCE: %v", name, err)
		}
	}
	// The longest answers of a device with a P-256 key.
	o := Offer{PublicKey: make([]byte, 91), Signature: make([]byte, 72), Transport: TCP, Candidates: all(v6, 8)}
	for _, v := range []any{
		Answer{1 << 63, VerdictYes, o}, Candidates{1 << 63, o}, Introduced{o, Address{v6}, Ticket{1}, make([]byte, maxCertificate)},
		Event{1 << 63, strings.Repeat("x", maxEventKind), make([]byte, maxEventData)},
	} {
		if b, err := Encode(v); err != nil {
			t.Errorf("%T of %d bytes: %v", v, len(b), err)
		}
	}
}

// Decode holds the limits of each body.
func TestBodyLimits(t *testing.T) {
	raw := func(v any) []byte {
		b, err := encoding.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	nine := make([][]byte, 9)
	for i := range nine {
		nine[i] = []byte{192, 0, 2, 1, 0, 1}
	}
	for name, c := range map[string]struct {
		body []byte
		into any
	}{
		"nine candidates":        {raw(Candidates{0, Offer{Candidates: nine}}), new(Candidates)},
		"port 0":                 {raw(Answer{1, 0, Offer{Candidates: [][]byte{{192, 0, 2, 1, 0, 0}}}}), new(Answer)},
		"another transport":      {raw(Answer{1, 0, Offer{Transport: 2}}), new(Answer)},
		"event without a kind":   {raw(Event{1, "", nil}), new(Event)},
		"event, long kind":       {raw(Event{1, strings.Repeat("x", 65), nil}), new(Event)},
		"event, long data":       {raw(Event{1, "x", make([]byte, 901)}), new(Event)},
		"relay without a ticket": {raw(Relay{Request: 1}), new(Relay)},
		"ticket, short":          {raw(map[int]any{1: 1, 2: make([]byte, 31)}), new(Relay)},
		"ticket, long":           {raw(map[int]any{1: 1, 2: make([]byte, 33)}), new(Relay)},
		"ticket, number":         {raw(map[int]any{1: 1, 2: 7}), new(Relay)},
		"hash, short":            {raw(map[int]any{1: 1, 2: make([]byte, 31), 3: map[int]any{}}), new(Introduction)},
		"hash, array":            {raw(map[int]any{1: 1, 2: make([]int, 8), 3: map[int]any{}}), new(Introduction)},
		"address, five bytes":    {raw(map[int]any{1: make([]byte, 5)}), new(Observed)},
		"certificate, short":     {raw(Introduced{Certificate: make([]byte, 20)}), new(Introduced)},
		"grant, long":            {raw(Introduction{Grant: make([]byte, maxGrant+1)}), new(Introduction)},
		"device named":           {raw(Introduction{Introduce: Introduce{Device: "x"}}), new(Introduction)},
		"not a map":              {[]byte{0x80}, new(Presence)},
	} {
		if err := Decode(c.body, c.into); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

func TestTicketDoesNotPrint(t *testing.T) {
	ticket := Ticket(bytes.Repeat([]byte{0xab}, 32))
	var text strings.Builder
	for _, f := range []string{"%v", "%+v", "%#v", "%x", "%s", "%q"} {
		fmt.Fprintf(&text, f+"\n", Introduced{Ticket: ticket})
		fmt.Fprintf(&text, f+"\n", ticket)
	}
	timeless := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey { // in which any digits may stand
			return slog.Attr{}
		}
		return a
	}}
	slog.New(slog.NewJSONHandler(&text, timeless)).Info("x", "ticket", ticket, "in", TicketGranted{ticket})
	slog.New(slog.NewTextHandler(&text, timeless)).Info("x", "ticket", ticket)
	j, err := json.Marshal(Relay{1, ticket})
	if err != nil {
		t.Fatal(err)
	}
	text.Write(j)
	for _, secret := range []string{"abab", "ABAB", "171", "\xab\xab"} {
		if strings.Contains(text.String(), secret) {
			t.Errorf("%q is in %s", secret, text.String())
		}
	}
	if first, second := NewTicket(), NewTicket(); first == second || first.IsZero() {
		t.Error("tickets are not random")
	}
}
