package testcam

import (
	"encoding/binary"
	"fmt"
)

// jpegParts is what RFC 2435 carries of a JPEG file: everything else, the
// receiver puts back from the standard.
type jpegParts struct {
	width, height int    // pixels
	tables        []byte // two quantisation tables of 64 bytes, in zigzag order
	scan          []byte // the entropy-coded data, without any marker
}

// dissect takes apart a file that image/jpeg has written: baseline, 4:2:0,
// the standard Huffman tables, no restart markers. It checks the first two and
// trusts the encoder with the rest.
func dissect(file []byte) (jpegParts, error) {
	var p jpegParts
	rest := file
	if len(rest) < 2 || rest[0] != 0xff || rest[1] != 0xd8 {
		return p, fmt.Errorf("jpeg: no start of image")
	}
	rest = rest[2:]
	for {
		if len(rest) < 4 || rest[0] != 0xff {
			return p, fmt.Errorf("jpeg: marker expected %d bytes before the end", len(rest))
		}
		marker, size := rest[1], int(binary.BigEndian.Uint16(rest[2:]))
		if size < 2 || len(rest) < 2+size {
			return p, fmt.Errorf("jpeg: marker %#x is cut off", marker)
		}
		body := rest[4 : 2+size]
		rest = rest[2+size:]
		switch marker {
		case 0xdb: // DQT: each table is its number and 64 bytes
			if len(body) != 2*65 || body[0] != 0 || body[65] != 1 {
				return p, fmt.Errorf("jpeg: %d bytes of quantisation tables", len(body))
			}
			p.tables = append(append(make([]byte, 0, 128), body[1:65]...), body[66:]...)
		case 0xc0: // SOF0: precision, height, width, components of three bytes
			if len(body) != 15 || body[0] != 8 || body[7] != 0x22 || body[10] != 0x11 || body[13] != 0x11 {
				return p, fmt.Errorf("jpeg: not 8 bits in 4:2:0")
			}
			p.height = int(binary.BigEndian.Uint16(body[1:]))
			p.width = int(binary.BigEndian.Uint16(body[3:]))
		case 0xdd: // DRI
			return p, fmt.Errorf("jpeg: restart markers")
		case 0xda: // SOS: the data follows and ends with EOI
			n := len(rest) - 2
			if n < 0 || rest[n] != 0xff || rest[n+1] != 0xd9 {
				return p, fmt.Errorf("jpeg: no end of image")
			}
			if p.tables == nil || p.width == 0 {
				return p, fmt.Errorf("jpeg: scan before its headers")
			}
			p.scan = rest[:n]
			return p, nil
		}
	}
}
