package inject

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
)

// answers makes Authorization values for one offer: for Digest it counts the
// uses of the nonce (nc), which servers want to see rise. It is not safe for use
// by several goroutines; whoever owns it has a lock.
type answers struct {
	offer  offer
	who    Credentials
	cnonce string // ours; the same for all answers to one nonce, as -sess wants it
	ha1    string // hash of user, realm and password
	count  uint32 // nc of the last answer
	hash   hash.Hash
	text   []byte // of h, used again
}

func newAnswers(o offer, who Credentials) *answers {
	o.params = slices.Clone(o.params)
	a := &answers{offer: o, who: who}
	if o.rank == 0 {
		return a
	}
	a.hash = o.algorithm.make()
	a.renew(o.of("nonce"))
	return a
}

func (a *answers) basic() bool { return a.offer.rank == 0 }

// nonce is the one that is answered now; "" for Basic.
func (a *answers) nonce() string {
	if a.basic() {
		return ""
	}
	return a.offer.of("nonce")
}

// renew goes over to another nonce, that of a challenge or a nextnonce
// (RFC 7616 §3.5).
func (a *answers) renew(nonce string) {
	for i, p := range a.offer.params {
		if p.name == "nonce" {
			a.offer.params[i].value = nonce
		}
	}
	a.cnonce, a.count = rand.Text(), 0
	a.ha1 = a.h(a.who.User, ":", a.offer.of("realm"), ":", a.who.Password.reveal())
	if a.offer.sess {
		a.ha1 = a.h(a.ha1, ":", nonce, ":", a.cnonce)
	}
}

// h is the hash of its arguments, one after the other, in hexadecimal.
func (a *answers) h(parts ...string) string {
	a.text = a.text[:0]
	for _, p := range parts {
		a.text = append(a.text, p...)
	}
	a.hash.Reset()
	_, _ = a.hash.Write(a.text) // a hash takes everything
	a.text = a.hash.Sum(a.text[:0])
	return hex.EncodeToString(a.text)
}

// to returns the value of Authorization for one request, and the part of it
// that must not come back: uri is what stands in the request line.
func (a *answers) to(method, uri string) (value, mark string) {
	if a.basic() {
		mark = base64.StdEncoding.EncodeToString([]byte(a.who.User + ":" + a.who.Password.reveal()))
		return "Basic " + mark, mark
	}
	a.count++
	nonce := a.nonce()
	ha2 := a.h(method, ":", uri)
	nc := hex.EncodeToString(binary.BigEndian.AppendUint32(nil, a.count))
	if a.offer.qop {
		mark = a.h(a.ha1, ":", nonce, ":", nc, ":", a.cnonce, ":auth:", ha2)
	} else {
		mark = a.h(a.ha1, ":", nonce, ":", ha2)
	}
	// Quotation marks as RFC 7616 §3.4 has them: some servers compare to the letter.
	b := make([]byte, 0, 400)
	add := func(parts ...string) {
		for _, p := range parts {
			b = append(b, p...)
		}
	}
	add(`Digest username="`, escapeQuotes(a.who.User), `", realm="`, a.offer.of("realm"), `", nonce="`, nonce, `", uri="`, uri, `", response="`, mark, `"`)
	if name := a.offer.of("algorithm"); name != "" {
		add(", algorithm=", name)
	}
	if opaque := a.offer.of("opaque"); opaque != "" {
		add(`, opaque="`, opaque, `"`)
	}
	if a.offer.qop {
		add(", qop=auth, nc=", nc)
	}
	if a.offer.qop || a.offer.sess {
		add(`, cnonce="`, a.cnonce, `"`)
	}
	return string(b), mark
}

var quoting = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func escapeQuotes(s string) string { return quoting.Replace(s) }

// nextNonce reads the nextnonce of an Authentication-Info field, "" when there
// is none.
func nextNonce(value string) string {
	list := parseChallenges("x " + value)
	if len(list) == 0 || len(list[0].of("nextnonce")) > maxParameter {
		return ""
	}
	return list[0].of("nextnonce")
}
