package testnet

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// A NAT says how a home's router treats flows, in the words that people use; the
// RFCs' words are beside it. What holds for UDP (RFC 4787) holds for TCP as well,
// as RFC 5382 asks. Routers in the field often differ there: netfilter's usual
// full-cone modules know UDP alone and are PortRestricted for TCP, so a table of
// what meets by TCP is to be read with that row in mind.
type NAT string

const (
	// FullCone keeps one outside port for all peers, and lets anybody in who uses
	// it, once something went out (endpoint-independent mapping and filtering).
	FullCone NAT = "full-cone"
	// AddrRestricted lets in from addresses that something was sent to
	// (address-dependent filtering).
	AddrRestricted NAT = "addr-restricted"
	// PortRestricted lets in from the very address and port that something was
	// sent to (address- and port-dependent filtering): Linux masquerade with a
	// firewall, the most common one.
	PortRestricted NAT = "port-restricted"
	// Symmetric filters as PortRestricted and has a new random outside port for
	// every peer (address- and port-dependent mapping).
	Symmetric NAT = "symmetric"
	// Leaky is PortRestricted, but the router answers unknown packets itself, by
	// ICMP and RST, against RFC 5382 REQ-4. A packet that comes early takes the
	// outside port away from the flow that it belongs to: whether peers meet is
	// a race.
	Leaky NAT = "leaky"
	// UDPBlocked is PortRestricted for TCP and lets no UDP through.
	UDPBlocked NAT = "udp-blocked"
)

// NATs are all kinds, the kindest first.
var NATs = []NAT{FullCone, AddrRestricted, PortRestricted, Symmetric, Leaky, UDPBlocked}

// Meet tells what theory says of two peers behind two routers that both try at
// the same time: whether they can reach each other directly. known is false
// where it is a race.
func Meet(network string, a, b NAT) (yes, known bool) {
	if network == "udp" && (a == UDPBlocked || b == UDPBlocked) {
		return false, true
	}
	yes = !strict(a) || !strict(b) || (a != Symmetric && b != Symmetric)
	return yes, a != Leaky && b != Leaky
}

// strict NATs let in only from the exact port that was sent to, which nobody
// knows of a symmetric one.
func strict(k NAT) bool { return k != FullCone && k != AddrRestricted }

// SetNAT makes the router another kind and forgets all flows.
func (h *Home) SetNAT(t testing.TB, kind NAT) {
	t.Helper()
	h.kind = kind
	h.rules(t)
	h.Flush(t)
}

// BlockUDP drops all UDP between the home and the world, or lets it through
// again as far as the kind does; flows are kept.
func (h *Home) BlockUDP(t testing.TB, block bool) {
	t.Helper()
	h.udp = !block
	h.filter(t)
}

// Loss drops per cent of the packets that the router forwards, each way.
func (h *Home) Loss(t testing.TB, percent int) {
	t.Helper()
	h.loss = percent
	h.filter(t)
}

// Flush makes the router forget all flows, as one does that was restarted.
func (h *Home) Flush(t testing.TB) {
	t.Helper()
	for _, set := range []string{"mapped", "seen"} {
		run(t, "ip", "netns", "exec", h.Router.Name, "nft", "flush", "map", "ip", "lab", set)
	}
	Program(t, "conntrack")
	// Where there was no flow yet it fails, and there is nothing to forget.
	_ = h.Router.Command("conntrack", "-F").Run()
}

// Hold sets for how long the router keeps a UDP flow that is silent; 0 is the
// kernel's own 30 s, and 120 s once both sides spoke often.
func (h *Home) Hold(t testing.TB, seconds int) {
	t.Helper()
	first, later := seconds, seconds
	if seconds == 0 {
		first, later = 30, 120
	}
	run(t, "ip", "netns", "exec", h.Router.Name, "sysctl", "-qw",
		fmt.Sprintf("net.netfilter.nf_conntrack_udp_timeout=%d", first),
		fmt.Sprintf("net.netfilter.nf_conntrack_udp_timeout_stream=%d", later))
}

// What the maps remember is keyed by the inside port, which masquerade keeps as
// the outside one while no two machines of a home use the same.
const lab = `
table ip lab
delete table ip lab
table ip lab {
	map mapped {
		type inet_proto . inet_service : ipv4_addr
		flags dynamic, timeout
		timeout 5m
	}
	map seen {
		type inet_proto . inet_service . ipv4_addr : ipv4_addr
		flags dynamic, timeout
		timeout 5m
	}
	chain trouble { }
	chain forward {
		type filter hook forward priority filter
		jump trouble
		ct state established,related accept
		ct status dnat accept
		iifname "wan" drop
	}
	chain input { type filter hook input priority filter
		%s
	}
	chain note { type filter hook postrouting priority srcnat - 10
		oifname "wan" meta l4proto { tcp, udp } update @mapped { meta l4proto . th sport : ip saddr }
		oifname "wan" meta l4proto { tcp, udp } update @seen { meta l4proto . th sport . ip daddr : ip saddr }
	}
	chain in { type nat hook prerouting priority dstnat
		%s
	}
	chain out { type nat hook postrouting priority srcnat
		oifname "wan" %s
	}
}
`

// rules makes the router what its kind says.
func (h *Home) rules(t testing.TB) {
	t.Helper()
	input, in, out := `ct state established,related accept; iifname "wan" drop`, "", "masquerade"
	switch h.kind {
	case FullCone:
		in = `iifname "wan" meta l4proto { tcp, udp } dnat to meta l4proto . th dport map @mapped`
	case AddrRestricted:
		in = `iifname "wan" meta l4proto { tcp, udp } dnat to meta l4proto . th dport . ip saddr map @seen`
	case Symmetric:
		out = "masquerade fully-random"
	case Leaky:
		input = ""
	case PortRestricted, UDPBlocked:
	default:
		t.Fatalf("unknown kind of NAT %q", h.kind)
	}
	h.nft(t, fmt.Sprintf(lab, input, in, out))
	h.filter(t)
}

// filter sets what is dropped on the way.
func (h *Home) filter(t testing.TB) {
	t.Helper()
	rules := "flush chain ip lab trouble\n"
	if !h.udp || h.kind == UDPBlocked {
		rules += "add rule ip lab trouble meta l4proto udp drop\n"
	}
	switch {
	case h.loss >= 100:
		rules += "add rule ip lab trouble drop\n"
	case h.loss > 0:
		rules += fmt.Sprintf("add rule ip lab trouble numgen random mod 100 < %d drop\n", h.loss)
	}
	h.nft(t, rules)
}

func (h *Home) nft(t testing.TB, rules string) {
	t.Helper()
	Program(t, "nft")
	feed(t, rules, "ip", "netns", "exec", h.Router.Name, "nft", "-f", "-")
}

// feed runs a program with text as its input.
func feed(t testing.TB, text, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s\n%s", name, strings.Join(args, " "), err, out, text)
	}
}
