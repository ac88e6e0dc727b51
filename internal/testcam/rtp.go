package testcam

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

const (
	payloadJPEG = 26    // RFC 3551 §6: JPEG's own number
	clockRate   = 90000 // RFC 2435 §3.1: ticks of the timestamp in a second
	// maxPacket keeps a packet whole on every ordinary path: 1,500 less IPv6,
	// UDP and what a tunnel puts around it.
	maxPacket   = 1400
	reportEvery = 5 * time.Second // RFC 3550 §6.2: the least interval of RTCP

	rtpHeaderSize  = 12
	jpegHeaderSize = 8
)

// rtpStream numbers the packets of one viewer (RFC 3550 §5.1):
//
//	 0                   1                   2                   3
//	|V=2|P|X|  CC   |M|     PT=26   |        sequence number        |
//	|                           timestamp                           |
//	|                             SSRC                              |
//	| type-specific |              fragment offset                  |  RFC 2435 §3.1
//	|   type = 1    |    Q = 255    |    width/8    |   height/8    |
//	|   MBZ         |   precision   |            length             |  first packet
//	|                    quantisation tables ...                    |
//	|                    entropy-coded data ...                     |
//
// Owned by the goroutine that sends.
type rtpStream struct {
	ssrc     uint32
	sequence uint16    // of the next packet
	base     uint32    // timestamp at epoch
	epoch    time.Time // when the stream began
	packets  uint32    // sent so far, for the sender's report
	octets   uint32    // of payload
	last     uint32    // timestamp of the newest frame
	reported time.Time
}

// newRTPStream starts at random numbers, as RFC 3550 §5.1 asks.
func newRTPStream(now time.Time) *rtpStream {
	return &rtpStream{ssrc: rand.Uint32(), sequence: uint16(rand.Uint32()), base: rand.Uint32(), epoch: now}
}

// timestamp is the stream's clock at a moment.
func (s *rtpStream) timestamp(t time.Time) uint32 {
	return s.base + uint32(t.Sub(s.epoch).Microseconds()*clockRate/1_000_000)
}

// packetize hands the packets of one frame to emit, in order. A packet is
// valid only during the call; the first error of emit ends it.
func (s *rtpStream) packetize(f *frame, emit func(packet []byte) error) error {
	var room [maxPacket]byte
	s.last = s.timestamp(f.taken)
	for offset := 0; offset < len(f.parts.scan); {
		p := append(room[:0], 2<<6, payloadJPEG)
		p = binary.BigEndian.AppendUint16(p, s.sequence)
		p = binary.BigEndian.AppendUint32(p, s.last)
		p = binary.BigEndian.AppendUint32(p, s.ssrc)
		p = binary.BigEndian.AppendUint32(p, uint32(offset)) // type-specific is 0: not interlaced
		p = append(p, 1, 255, byte((f.parts.width+7)/8), byte((f.parts.height+7)/8))
		if offset == 0 {
			p = append(p, 0, 0, 0, byte(len(f.parts.tables)))
			p = append(p, f.parts.tables...)
		}
		n := min(maxPacket-len(p), len(f.parts.scan)-offset)
		p = append(p, f.parts.scan[offset:offset+n]...)
		offset += n
		if offset == len(f.parts.scan) {
			p[1] |= 0x80 // marker: the last packet of the picture
		}
		s.sequence++
		s.packets++
		s.octets += uint32(len(p) - rtpHeaderSize)
		if err := emit(p); err != nil {
			return err
		}
	}
	return nil
}

// reportDue says whether a sender's report should go out now, and notes that
// it does.
func (s *rtpStream) reportDue(now time.Time) bool {
	if !s.reported.IsZero() && now.Sub(s.reported) < reportEvery {
		return false
	}
	s.reported = now
	return true
}

// report is a compound RTCP packet: sender's report and our name (RFC 3550
// §6.4.1, §6.5). Players use it to put wall-clock time to a timestamp.
func (s *rtpStream) report(now time.Time) []byte {
	const since1900 = 2208988800
	p := []byte{2 << 6, 200, 0, 6}
	p = binary.BigEndian.AppendUint32(p, s.ssrc)
	p = binary.BigEndian.AppendUint32(p, uint32(now.Unix()+since1900))
	p = binary.BigEndian.AppendUint32(p, uint32(uint64(now.Nanosecond())<<32/1_000_000_000))
	p = binary.BigEndian.AppendUint32(p, s.timestamp(now))
	p = binary.BigEndian.AppendUint32(p, s.packets)
	p = binary.BigEndian.AppendUint32(p, s.octets)
	return s.appendName(p)
}

// goodbye is a compound RTCP packet that ends the stream (RFC 3550 §6.6).
func (s *rtpStream) goodbye(now time.Time) []byte {
	p := append(s.report(now), 2<<6|1, 203, 0, 1)
	return binary.BigEndian.AppendUint32(p, s.ssrc)
}

// appendName adds the source description with its one obligatory item.
func (s *rtpStream) appendName(p []byte) []byte {
	const name = "testcam"
	words := 1 + (2+len(name)+1+3)/4
	p = append(p, 2<<6|1, 202, 0, byte(words))
	p = binary.BigEndian.AppendUint32(p, s.ssrc)
	p = append(p, 1, byte(len(name)))
	p = append(p, name...)
	for range words*4 - 4 - 2 - len(name) {
		p = append(p, 0)
	}
	return p
}
