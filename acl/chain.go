package acl

import (
	"crypto"
	"crypto/sha256"
	"fmt"
)

// A Verification is the result of looking at a whole log, or at an export of one.
//
// What it can and cannot show: a line that was changed, put in, taken out or
// moved shows, and so do missing beginnings and ends, up to line Witnessed. Who
// holds the device's own key can write any log; who may write its disk while it
// is off can take away the lines behind Witnessed, or put the whole of both
// directories back to an earlier day. Against the last, compare with an export.
type Verification struct {
	First, Last uint64 // numbers of the first and last line; First is above 1 where older lines were dropped
	Lines       int    // read
	Signed      int    // of them
	// Witnessed is the last line that something beside the chain vouches for: a
	// signature that follows, or the sealed copies of the list.
	Witnessed uint64
	Bad       *BadLine // nil when everything holds
}

// A BadLine is the first line that does not hold.
type BadLine struct {
	File string // name of the segment; "" in an export
	Line int    // in the file, from 1; 0: at its end
	Why  string
}

func (b *BadLine) String() string {
	switch {
	case b.Line == 0:
		return b.Why
	case b.File == "":
		return fmt.Sprintf("line %d: %s", b.Line, b.Why)
	}
	return fmt.Sprintf("%s:%d: %s", b.File, b.Line, b.Why)
}

// A chain looks at one line after the other.
type chain struct {
	key    crypto.PublicKey
	known  bool    // last is what the next line must follow; false: any line may begin
	last   witness // line before
	seen   witness // what the store knows, zero for nothing
	result Verification
}

// next says why a line cannot follow those before it, or "".
func (c *chain) next(raw []byte, e *Entry) string {
	if c.known {
		if why := c.follows(e); why != "" {
			return why
		}
	}
	if err := e.verifyBy(c.key); err != nil {
		return err.Error()
	}
	here := witness{e.Number, sha256.Sum256(raw)}
	if here.Number == c.seen.Number && here.Tip != c.seen.Tip {
		return "the access list remembers another line with this number: the log was put back or exchanged"
	}
	c.count(e)
	c.known, c.last = true, here
	return ""
}

func (c *chain) follows(e *Entry) string {
	switch want := c.last.Number + 1; {
	case e.Number == want+1:
		return fmt.Sprintf("line %d of the log is missing before this one", want)
	case e.Number > want:
		return fmt.Sprintf("lines %d to %d of the log are missing before this one", want, e.Number-1)
	case e.Number < want:
		return fmt.Sprintf("line %d of the log follows line %d", e.Number, c.last.Number)
	case e.Previous != c.last.Tip:
		return "it does not follow from the line before: one of the two was changed"
	}
	return ""
}

func (c *chain) count(e *Entry) {
	v := &c.result
	if v.Lines == 0 {
		v.First = e.Number
	}
	v.Last = e.Number
	v.Lines++
	if e.Sig != nil {
		v.Signed++
		v.Witnessed = e.Number
	}
	if c.seen.Number == e.Number {
		v.Witnessed = e.Number
	}
}
