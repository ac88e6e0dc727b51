package inject

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"hash"
	"strings"
)

const (
	// maxChallenges and maxParameters bound what one 401 may ask for. Servers
	// send one challenge for each algorithm, with up to eight parameters.
	maxChallenges = 16
	maxParameters = 32
	// maxParameter bounds realm, nonce and opaque, which are sent back.
	maxParameter = 2 << 10
)

// challenge is one way to prove oneself that a service offers (RFC 9110
// §11.6.1).
//
//	WWW-Authenticate: Digest realm="cam", nonce="5f…", qop="auth", algorithm=SHA-256, Basic realm="cam"
type challenge struct {
	scheme string // lower case
	params []parameter
}

type parameter struct {
	name  string // lower case
	value string // without the quotation marks, escapes as they came (RFC 7616 §3.4: unq)
}

// of returns a parameter, "" when there is none.
func (c *challenge) of(name string) string {
	for _, p := range c.params {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// parseChallenges reads the value of one WWW-Authenticate field. What cannot be
// read ends the list; what came before it counts.
func parseChallenges(s string) []challenge {
	var list []challenge
	t := tokens{s}
	for len(list) <= maxChallenges {
		t.skip(" \t,")
		word := t.token()
		if word == "" {
			return list
		}
		after := t
		after.skip(" \t")
		if len(list) > 0 && strings.HasPrefix(after.rest, "=") {
			after.rest = after.rest[1:]
			value, ok := after.value()
			last := &list[len(list)-1]
			if !ok || len(last.params) == maxParameters {
				return list
			}
			last.params = append(last.params, parameter{strings.ToLower(word), value})
			t = after
			continue
		}
		list = append(list, challenge{scheme: strings.ToLower(word)})
		t = after
		t.token68()
	}
	return list[:maxChallenges]
}

// tokens reads a field value from left to right.
type tokens struct{ rest string }

func (t *tokens) skip(chars string) { t.rest = strings.TrimLeft(t.rest, chars) }

func (t *tokens) token() string {
	n := 0
	for n < len(t.rest) && isTokenChar(t.rest[n]) {
		n++
	}
	word := t.rest[:n]
	t.rest = t.rest[n:]
	return word
}

// value takes a quoted string, or a token as sloppy servers write it.
func (t *tokens) value() (string, bool) {
	t.skip(" \t")
	if !strings.HasPrefix(t.rest, `"`) {
		n := strings.IndexAny(t.rest, ", \t\"")
		if n < 0 {
			n = len(t.rest)
		}
		v := t.rest[:n]
		t.rest = t.rest[n:]
		return v, !strings.Contains(v, `\`)
	}
	for i := 1; i < len(t.rest); i++ {
		switch t.rest[i] {
		case '\\':
			i++
		case '"':
			v := t.rest[1:i]
			t.rest = t.rest[i+1:]
			return v, true
		}
	}
	return "", false
}

// token68 skips the one value that schemes such as Negotiate have in place of
// parameters.
func (t *tokens) token68() {
	n := 0
	for n < len(t.rest) && (isTokenChar(t.rest[n]) || t.rest[n] == '/') {
		n++
	}
	for n < len(t.rest) && t.rest[n] == '=' {
		n++
	}
	after := tokens{t.rest[n:]}
	after.skip(" \t")
	if n > 0 && (after.rest == "" || after.rest[0] == ',') {
		t.rest = after.rest
	}
}

// isTokenChar is tchar of RFC 9110 §5.6.2.
func isTokenChar(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune("\"(),/:;<=>?@[\\]{}", rune(c))
}

// algorithm is one of RFC 7616's, the best last.
type algorithm struct {
	name string // upper case
	make func() hash.Hash
}

var algorithms = []algorithm{
	{"MD5", md5.New},
	{"SHA-256", sha256.New},
	{"SHA-512-256", sha512.New512_256},
}

// Errors of choose: why a challenge cannot be answered. They are for the client
// as well.
var (
	errNoChallenge   = errors.New("it refuses without saying what it wants")
	errUnknownScheme = errors.New("it wants a way of signing in that is neither Basic nor Digest")
	errIntegrity     = errors.New("it wants Digest with qop=auth-int alone, for which every request would have to be held back until its end")
	errAlgorithm     = errors.New("it wants Digest with an algorithm that is none of MD5, SHA-256 and SHA-512-256")
)

// offer is a challenge that can be answered.
type offer struct {
	challenge
	rank      int // Basic 0, then as in algorithms
	algorithm algorithm
	sess      bool // the -sess variant
	qop       bool // qop=auth; false: as before RFC 2617 knew of it
	stale     bool
}

// choose takes the best of the challenges. Digest is preferred to Basic, which
// shows the password to whoever listens between device and service.
func choose(list []challenge) (offer, error) {
	best, err := offer{rank: -1}, errNoChallenge
	if len(list) > 0 {
		err = errUnknownScheme
	}
	for _, c := range list {
		o, why := judge(c)
		if why == nil && o.rank > best.rank {
			best = o
		} else if why != nil && why != errUnknownScheme {
			err = why
		}
	}
	if best.rank >= 0 {
		return best, nil
	}
	return offer{}, err
}

func judge(c challenge) (offer, error) {
	o := offer{challenge: c}
	switch c.scheme {
	case "basic":
		return o, nil
	case "digest":
	default:
		return o, errUnknownScheme
	}
	for _, name := range []string{"realm", "nonce", "opaque"} {
		if v := c.of(name); len(v) > maxParameter || name == "nonce" && v == "" {
			return o, errNoChallenge
		}
	}
	if qop := c.of("qop"); qop != "" {
		for word := range strings.SplitSeq(qop, ",") {
			o.qop = o.qop || strings.EqualFold(strings.TrimSpace(word), "auth")
		}
		if !o.qop {
			return o, errIntegrity
		}
	}
	o.stale = strings.EqualFold(c.of("stale"), "true")
	name := strings.ToUpper(c.of("algorithm"))
	if name == "" {
		name = "MD5" // RFC 7616 §3.3
	}
	name, o.sess = strings.CutSuffix(name, "-SESS")
	for i, a := range algorithms {
		if a.name == name {
			o.algorithm, o.rank = a, i+1
			return o, nil
		}
	}
	return o, errAlgorithm
}
