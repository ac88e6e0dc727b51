package pairing

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Link is what a person hands on so that another can pair: an invite, or what
// a display or a sticker says, with the device's id, so that the client knows
// beforehand whose key to expect. It does not print: Text is its one way out.
//
//	keyhole: kind id body
//
//	kind  1 character: i invite, c code on the display, l label; others are of later versions
//	id    26 characters, as it is written everywhere
//	body  base 32 (RFC 4648 §6, no padding) of
//
//	      secret        i: token, 16 bytes; c: the eight digits as a number, 4 bytes;
//	                    l: 50 bits, big-endian, in 7 bytes
//	      basestation   i alone, and only where the device has one:
//	                    1         number of root keys, 1 or 2
//	                    32 each   root keys (Ed25519)
//	                    addresses, 1 to 8:
//	                      1  kind: 1 to 253 a name of that many bytes, 254 IPv4, 255 IPv6
//	                      …  name, 4 bytes, or 16 bytes
//	                      2  port, big-endian
//	      sum           first 2 bytes of SHA-256 over "keyhole/1 link" 00, kind, id and the body before it
//
// Letters may be of either case: in capitals all of it is in the alphanumeric
// set of QR codes, which hold it in 5.5 bits a character. The sum is against slips
// of hand and mail programs that cut lines; who forges a link has no need to miss it.
type Link struct {
	Kind   LinkKind
	Device identity.ID
	Token  Token     // of an invite
	Code   Passcode  // of a display
	Label  LabelCode // of a sticker
	Base   LinkBase  // of an invite; the zero value: the device has none
}

// A LinkBase is where a device can be asked for from beyond its network.
type LinkBase struct {
	Addresses []string // HOST:PORT
	Roots     [][32]byte
}

// A LinkKind says what secret is in a link.
type LinkKind byte

// The kinds, as they are written.
const (
	LinkInvite LinkKind = 'i'
	LinkCode   LinkKind = 'c'
	LinkLabel  LinkKind = 'l'
)

// LinkScheme begins a link.
const LinkScheme = "keyhole:"

const (
	idChars      = 26 // of identity.ID
	sumBytes     = 2
	rootBytes    = 32
	maxRoots     = 2 // the one in use and the one that replaces it
	maxLinkBases = 8
	maxHostBytes = 253 // a DNS name
	addressV4    = 254
	addressV6    = 255
	linkDomain   = "keyhole/1 link"

	// MaxLinkBytes bounds a link as text: scheme, kind, id, and a body with two
	// root keys and the longest addresses there are.
	MaxLinkBytes = len(LinkScheme) + 1 + idChars + (TokenBytes+1+maxRoots*rootBytes+maxLinkBases*(1+maxHostBytes+2)+sumBytes)*8/5 + 1
)

// linkText is base 32 as ids are written.
var linkText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ErrNotLink means that a text is no link of ours, or was damaged on its way.
var ErrNotLink = errors.New("not a keyhole: link, or not the whole of it")

// IsLink tells whether a text means to be a link.
func IsLink(s string) bool {
	return len(s) >= len(LinkScheme) && strings.EqualFold(s[:len(LinkScheme)], LinkScheme)
}

// Text is the link as people copy it; in capitals it makes the smaller QR code.
// It returns an error for what could not be read again.
func (l Link) Text() (string, error) {
	body, err := l.body()
	if err != nil {
		return "", err
	}
	head := string(rune(l.Kind)) + string(l.Device)
	body = append(body, linkSum(head, body)...)
	return LinkScheme + head + linkText.EncodeToString(body), nil
}

func linkSum(head string, body []byte) []byte {
	sum := sha256.Sum256(append(append(append([]byte(linkDomain), 0), head...), body...))
	return sum[:sumBytes]
}

func (l Link) body() (b []byte, err error) {
	if _, err := identity.ParseID(string(l.Device)); err != nil {
		return nil, err
	}
	switch l.Kind {
	case LinkCode:
		n, err := strconv.ParseUint(l.Code.digits, 10, 32)
		if err != nil {
			return nil, ErrNotCode
		}
		return binary.BigEndian.AppendUint32(nil, uint32(n)), nil
	case LinkLabel:
		if l.Label.IsZero() {
			return nil, ErrNotLabel
		}
		return l.Label.bytes(), nil
	case LinkInvite:
		return l.Base.append(l.Token.bytes())
	}
	return nil, ErrNotLink
}

func (b LinkBase) append(to []byte) ([]byte, error) {
	if len(b.Addresses) == 0 && len(b.Roots) == 0 {
		return to, nil
	}
	if len(b.Roots) == 0 || len(b.Roots) > maxRoots || len(b.Addresses) == 0 || len(b.Addresses) > maxLinkBases {
		return nil, fmt.Errorf("a link has 1 to %d root keys and 1 to %d addresses", maxRoots, maxLinkBases)
	}
	to = append(to, byte(len(b.Roots)))
	for _, r := range b.Roots {
		to = append(to, r[:]...)
	}
	for _, a := range b.Addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s: no port", a)
		}
		ip, err := netip.ParseAddr(host)
		switch {
		case err == nil && ip.Unmap().Is4():
			to = append(append(to, addressV4), ip.Unmap().AsSlice()...)
		case err == nil && ip.Zone() == "":
			to = append(append(to, addressV6), ip.AsSlice()...)
		case linkHost(host):
			to = append(append(to, byte(len(host))), strings.ToLower(host)...)
		default:
			return nil, fmt.Errorf("%s: not an address that can be in a link", a)
		}
		to = binary.BigEndian.AppendUint16(to, uint16(n))
	}
	return to, nil
}

// ParseLink reads a link. What it accepts has one form only: Text of the result
// is the same but for the case of letters. It returns ErrNotLink.
func ParseLink(s string) (Link, error) {
	s = strings.TrimSpace(s)
	if !IsLink(s) || len(s) > MaxLinkBytes || len(s) < len(LinkScheme)+1+idChars {
		return Link{}, ErrNotLink
	}
	s = strings.ToLower(s)[len(LinkScheme):]
	head, text := s[:1+idChars], s[1+idChars:]
	l := Link{Kind: LinkKind(head[0])}
	id, err := identity.ParseID(head[1:])
	if err != nil {
		return Link{}, ErrNotLink
	}
	l.Device = id
	body, err := linkText.DecodeString(text)
	if err != nil || len(body) <= sumBytes || linkText.EncodeToString(body) != text {
		return Link{}, ErrNotLink
	}
	body, sum := body[:len(body)-sumBytes], body[len(body)-sumBytes:]
	if !bytes.Equal(linkSum(head, body), sum) {
		return Link{}, ErrNotLink
	}
	if err := l.parse(body); err != nil {
		return Link{}, err
	}
	return l, nil
}

func (l *Link) parse(body []byte) (err error) {
	switch {
	case l.Kind == LinkCode && len(body) == 4 && binary.BigEndian.Uint32(body) < codeModulus:
		l.Code = Passcode{fmt.Sprintf("%0*d", codeDigits, binary.BigEndian.Uint32(body))}
		return nil
	case l.Kind == LinkLabel:
		l.Label, err = labelOf(body)
		return err
	case l.Kind == LinkInvite && len(body) >= TokenBytes:
		l.Token = Token{[TokenBytes]byte(body)}
		return l.Base.parse(body[TokenBytes:])
	}
	return ErrNotLink
}

func (b *LinkBase) parse(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	n := int(p[0])
	if p = p[1:]; n < 1 || n > maxRoots || len(p) < n*rootBytes {
		return ErrNotLink
	}
	for range n {
		b.Roots, p = append(b.Roots, [32]byte(p)), p[rootBytes:]
	}
	for len(p) > 0 {
		size := int(p[0])
		switch p[0] {
		case 0:
			return ErrNotLink
		case addressV4:
			size = 4
		case addressV6:
			size = 16
		}
		if len(p) < 1+size+2 || len(b.Addresses) == maxLinkBases {
			return ErrNotLink
		}
		host, port := string(p[1:1+size]), binary.BigEndian.Uint16(p[1+size:])
		if p[0] >= addressV4 {
			ip, _ := netip.AddrFromSlice(p[1 : 1+size]) // 4 or 16 bytes
			if ip.Is4In6() {
				return ErrNotLink // it has a shorter form
			}
			host = ip.String()
		} else if _, err := netip.ParseAddr(host); err == nil || !linkHost(host) || host != strings.ToLower(host) {
			return ErrNotLink
		}
		if port == 0 {
			return ErrNotLink
		}
		b.Addresses = append(b.Addresses, net.JoinHostPort(host, strconv.Itoa(int(port))))
		p = p[1+size+2:]
	}
	if len(b.Addresses) == 0 {
		return ErrNotLink
	}
	return nil
}

// linkHost tells whether a text can be a host name.
func linkHost(s string) bool {
	if s == "" || len(s) > maxHostBytes || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// Format keeps it out of logs, whatever the verb.
func (l Link) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[link]") }

// String keeps it out of logs too.
func (l Link) String() string { return "[link]" }

// MarshalText keeps it out of JSON.
func (l Link) MarshalText() ([]byte, error) { return []byte("[link]"), nil }
