package testcam

import (
	"fmt"
	"strconv"
	"strings"
)

// A transport is how one client takes its packets (RFC 2326 §12.39).
type transport struct {
	tcp       bool
	rtp, rtcp uint16 // channels when tcp (below 256), ports of the client otherwise
}

// parseTransport picks the first offer that we can serve: RTP/AVP over UDP to
// one client, or interleaved. ok is false when there is none.
func parseTransport(header string) (t transport, ok bool) {
	for offer := range strings.SplitSeq(header, ",") {
		if t, ok := parseOffer(offer); ok {
			return t, true
		}
	}
	return transport{}, false
}

func parseOffer(offer string) (t transport, ok bool) {
	parts := strings.Split(offer, ";")
	switch strings.ToUpper(strings.TrimSpace(parts[0])) {
	case "RTP/AVP", "RTP/AVP/UDP":
	case "RTP/AVP/TCP":
		t = transport{tcp: true, rtp: 0, rtcp: 1}
	default:
		return t, false
	}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		key = strings.ToLower(key)
		switch {
		case key == "multicast":
			return t, false
		case key == "mode" && !strings.EqualFold(strings.Trim(value, `"`), "play"):
			return t, false
		case key == "interleaved" && t.tcp:
			if t.rtp, t.rtcp, ok = parsePair(value, 255); !ok {
				return t, false
			}
		case key == "client_port" && !t.tcp:
			if t.rtp, t.rtcp, ok = parsePair(value, 65535); !ok || t.rtp == 0 {
				return t, false
			}
		}
	}
	return t, t.tcp || t.rtp != 0
}

// parsePair reads "a-b"; a alone means a and the one after it.
func parsePair(s string, most uint64) (a, b uint16, ok bool) {
	first, second, both := strings.Cut(s, "-")
	x, err := strconv.ParseUint(first, 10, 16)
	if err != nil || x > most {
		return 0, 0, false
	}
	y := x + 1
	if both {
		if y, err = strconv.ParseUint(second, 10, 16); err != nil {
			return 0, 0, false
		}
	}
	return uint16(x), uint16(y), y <= most && x != y
}

// answer is the header's value for a SETUP that was granted.
func (t transport) answer(ssrc uint32, server [2]uint16) string {
	if t.tcp {
		return fmt.Sprintf("RTP/AVP/TCP;unicast;interleaved=%d-%d;ssrc=%08X", t.rtp, t.rtcp, ssrc)
	}
	return fmt.Sprintf("RTP/AVP;unicast;client_port=%d-%d;server_port=%d-%d;ssrc=%08X", t.rtp, t.rtcp, server[0], server[1], ssrc)
}
