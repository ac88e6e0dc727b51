//go:build linux

package e2e

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// A packet is what tcpdump has seen of TCP or UDP.
type packet struct {
	from, to netip.AddrPort
	tcp, syn bool
	seq      uint32
	data     []byte
}

const (
	etherIPv4, etherIPv6 = 0x0800, 0x86dd
	protoTCP, protoUDP   = 6, 17
)

// parseCapture reads a pcap file of an Ethernet device in this machine's byte
// order. Other packets than TCP and UDP over IP are left out.
func parseCapture(file []byte) (list []packet, err error) {
	if len(file) < 24 || binary.NativeEndian.Uint32(file) != 0xa1b2c3d4 || binary.NativeEndian.Uint32(file[20:]) != 1 {
		return nil, errors.New("no capture of an Ethernet device")
	}
	for file = file[24:]; len(file) > 0; {
		if len(file) < 16 {
			return nil, errors.New("half a packet header")
		}
		kept, long := int(binary.NativeEndian.Uint32(file[8:])), int(binary.NativeEndian.Uint32(file[12:]))
		if file = file[16:]; kept != long || kept > len(file) {
			return nil, fmt.Errorf("packet of %d bytes cut to %d", long, kept)
		}
		if p, ok := parseEthernet(file[:kept]); ok {
			list = append(list, p)
		}
		file = file[kept:]
	}
	return list, nil
}

func parseEthernet(frame []byte) (p packet, ok bool) {
	if len(frame) < 14 {
		return p, false
	}
	ip := frame[14:]
	var proto byte
	var payload []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		if len(ip) < 20 {
			return p, false
		}
		head, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if total == 0 { // a segment that offloading has left whole
			total = len(ip)
		}
		if head < 20 || total < head || total > len(ip) {
			return p, false
		}
		proto, payload = ip[9], ip[head:total]
		p.from, p.to = address(ip[12:16], payload, 0), address(ip[16:20], payload, 2)
	case etherIPv6:
		if len(ip) < 40 {
			return p, false
		}
		proto, payload = ip[6], ip[40:]
		if n := int(binary.BigEndian.Uint16(ip[4:])); n > 0 && n < len(payload) {
			payload = payload[:n]
		}
		p.from, p.to = address(ip[8:24], payload, 0), address(ip[24:40], payload, 2)
	}
	switch {
	case proto == protoUDP && len(payload) >= 8:
		p.data = payload[8:]
	case proto == protoTCP && len(payload) >= 20 && int(payload[12]>>4)*4 <= len(payload):
		p.tcp, p.syn = true, payload[13]&2 != 0
		p.seq, p.data = binary.BigEndian.Uint32(payload[4:]), payload[payload[12]>>4*4:]
	default:
		return p, false
	}
	return p, true
}

func address(ip, payload []byte, port int) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	if len(payload) < port+2 {
		return netip.AddrPortFrom(a, 0)
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(payload[port:]))
}

// A flow is all that went one way between two ports, in order.
type flow struct {
	from, to netip.AddrPort
	tcp      bool
	data     []byte
}

func (f *flow) String() string { return fmt.Sprintf("%s to %s", f.from, f.to) }

// streams puts packets together. A TCP connection is taken from its SYN; what
// came twice counts once, and after a hole the rest is left out.
func streams(packets []packet) (list []*flow) {
	type key struct {
		from, to netip.AddrPort
		tcp      bool
	}
	parts := map[key][]packet{}
	var order []key
	for _, p := range packets {
		k := key{p.from, p.to, p.tcp}
		if parts[k] == nil {
			order = append(order, k)
		}
		parts[k] = append(parts[k], p)
	}
	for _, k := range order {
		f := &flow{from: k.from, to: k.to, tcp: k.tcp}
		if k.tcp {
			f.data = inOrder(parts[k])
		} else {
			for _, p := range parts[k] {
				f.data = append(f.data, p.data...)
			}
		}
		list = append(list, f)
	}
	return list
}

func inOrder(list []packet) (data []byte) {
	i := slices.IndexFunc(list, func(p packet) bool { return p.syn })
	if i < 0 {
		return nil
	}
	first := list[i].seq + 1
	list = slices.DeleteFunc(slices.Clone(list), func(p packet) bool { return p.syn })
	slices.SortStableFunc(list, func(a, b packet) int { return cmp.Compare(int32(a.seq-first), int32(b.seq-first)) })
	for _, p := range list {
		at := int(int32(p.seq - first))
		if at > len(data) {
			return data
		}
		if fresh := at + len(p.data) - len(data); fresh > 0 {
			data = append(data, p.data[len(p.data)-fresh:]...)
		}
	}
	return data
}

// TLS records and what is in the first ones (RFC 8446 §4, §5.1).
const (
	recordChangeCipher, recordAlert, recordHandshake, recordData = 20, 21, 22, 23

	helloClient, helloServer = 1, 2

	extensionVersions = 43
	tls13             = 0x0304
)

// onlyTLS13 tells whether one way of a connection is a hello for TLS 1.3 and
// encrypted records after it.
func onlyTLS13(data []byte, fromServer bool) error {
	for n := 0; len(data) >= 5; n++ {
		kind, size := data[0], int(binary.BigEndian.Uint16(data[3:]))
		if data[1] != 3 {
			return fmt.Errorf("record %d is none of TLS: % x", n, data[:5])
		}
		if len(data) < 5+size {
			return nil // the capture ended here
		}
		body := data[5 : 5+size]
		data = data[5+size:]
		switch {
		case n == 0 && kind == recordHandshake:
			if err := hello13(body, fromServer); err != nil {
				return err
			}
		case n > 0 && (kind == recordChangeCipher && size == 1 || kind == recordData):
		default:
			return fmt.Errorf("record %d has type %d: it is not encrypted", n, kind)
		}
	}
	return nil
}

// hello13 reads the versions of a ClientHello or the version of a ServerHello.
func hello13(b []byte, fromServer bool) error {
	want := byte(helloClient)
	if fromServer {
		want = helloServer
	}
	if len(b) < 4+2+32+1 || b[0] != want {
		return errors.New("begins without a hello")
	}
	b = b[4+2+32:]
	skip := func(n int) bool {
		if n > len(b) {
			return false
		}
		b = b[n:]
		return true
	}
	short := errors.New("half a hello")
	if !skip(1 + int(b[0])) { // session id
		return short
	}
	if fromServer {
		if !skip(3) { // cipher suite, compression
			return short
		}
	} else if len(b) < 2 || !skip(2+int(binary.BigEndian.Uint16(b))) || len(b) < 1 || !skip(1+int(b[0])) {
		return short
	}
	if !skip(2) {
		return short
	}
	for len(b) >= 4 {
		kind, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+size {
			return short
		}
		value := b[4 : 4+size]
		b = b[4+size:]
		if kind != extensionVersions {
			continue
		}
		if !fromServer {
			value = value[min(1, len(value)):] // a list with its length
		}
		for i := 0; i+1 < len(value); i += 2 {
			if v := binary.BigEndian.Uint16(value[i:]); v != tls13 {
				return fmt.Errorf("version %04x is offered or chosen", v)
			}
		}
		if len(value) < 2 {
			return short
		}
		return nil
	}
	return errors.New("names no version: older than TLS 1.3")
}
