package acl

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/keyholed/keyhole/protocol/identity"
)

// MaxExportBytes bounds what VerifyExport reads: twice the largest log.
const MaxExportBytes = 2 * maxLogBytes

// Export writes the lines with a number above after as they are, oldest first,
// and ends with one of kind "end" that is not in the log: it says which was the
// first line and which the last, with its hash, and is signed, so that everything before it is vouched
// for and an export that was cut off shows. Lines that cannot be read are left
// out, which shows as well. Whoever has the device's id can check it all, see VerifyExport.
func (s *Store) Export(w io.Writer, after uint64) error {
	segments, path, _ := s.segments()
	first, last := after+1, witness{Number: after}
	started := false
	for i, seg := range segments {
		if i+1 < len(segments) && segments[i+1].first != 0 && segments[i+1].first <= after+1 {
			continue
		}
		lines, err := readLines(path(seg.number))
		if missing(err) {
			continue // dropped meanwhile
		}
		if err != nil {
			return err
		}
		for _, l := range lines {
			if l.entry == nil || l.end > seg.size || l.entry.Number <= after {
				continue
			}
			if _, err := w.Write(append(l.raw, '\n')); err != nil {
				return err
			}
			if !started {
				first, started = l.entry.Number, true
			}
			last = witness{l.entry.Number, sha256.Sum256(l.raw)}
		}
	}
	end, err := s.endLine(first, last)
	if err != nil {
		return err
	}
	_, err = w.Write(append(end, '\n'))
	return err
}

func (s *Store) endLine(first uint64, last witness) ([]byte, error) {
	public, err := x509.MarshalPKIXPublicKey(s.audit.key.Public())
	if err != nil {
		return nil, err
	}
	e := &Entry{Number: last.Number, Previous: last.Tip, First: first, Device: public, Event: Event{What: whatEnd}}
	e.position = s.current.Load().position
	s.stamp(e)
	return e.sign(s.audit.key)
}

// Errors of VerifyExport that come before any line is looked at.
var (
	ErrExportTooLarge = fmt.Errorf("larger than %d bytes: no export of a log is", MaxExportBytes)
	ErrNotExport      = errors.New("no line of it names the device that signed: not an export of an audit log")
)

// VerifyExport checks what Export wrote, anywhere: the device is known by its id
// alone. Bad says what does not hold, the log of another device included.
func VerifyExport(r io.Reader, device identity.ID) (Verification, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxExportBytes+1))
	if err != nil {
		return Verification{}, err
	}
	if len(data) > MaxExportBytes {
		return Verification{}, ErrExportTooLarge
	}
	lines := splitLines(data, maxBatchBytes)
	c := chain{}
	for _, l := range lines {
		if l.entry != nil && len(l.entry.Device) > 0 {
			if c.key, err = x509.ParsePKIXPublicKey(l.entry.Device); err != nil {
				return Verification{}, ErrNotExport
			}
			break
		}
	}
	if c.key == nil {
		return Verification{}, ErrNotExport
	}
	f, err := identity.FingerprintOf(c.key)
	if err != nil {
		return Verification{}, err
	}
	if f.ID() != device {
		c.result.Bad = &BadLine{Why: fmt.Sprintf("it is the log of another device: %s", f.ID())}
		return c.result, nil
	}
	c.walk(lines)
	return c.result, nil
}

// walk checks the lines of an export.
func (c *chain) walk(lines []line) {
	for i, l := range lines {
		why := ""
		switch e := l.entry; {
		case e == nil:
			why = l.err.Error()
		case e.What == whatCheckpoint:
			why = "a line of this kind is not in an export"
		case e.What == whatEnd && i != len(lines)-1:
			why = "lines follow the end of the export"
		case e.What == whatEnd:
			why = c.end(e)
		default:
			why = c.next(l.raw, e)
		}
		if why != "" {
			c.result.Bad = &BadLine{Line: i + 1, Why: why}
			return
		}
	}
	if len(lines) == 0 || lines[len(lines)-1].entry.What != whatEnd {
		c.result.Bad = &BadLine{Why: fmt.Sprintf("the export was cut off: it has no signed end, and what follows line %d is not vouched for", c.result.Witnessed)}
	}
}

// end looks at the statement that ends an export.
func (c *chain) end(e *Entry) string {
	if err := e.verifyBy(c.key); err != nil {
		return err.Error()
	}
	if c.known && (e.Number != c.last.Number || e.Previous != c.last.Tip) {
		return fmt.Sprintf("the device ended this export at line %d, and the line before is %d or another one", e.Number, c.last.Number)
	}
	if c.result.Lines > 0 && c.result.First != e.First {
		return fmt.Sprintf("the device began this export with line %d, and it begins with line %d", e.First, c.result.First)
	}
	c.result.Witnessed = e.Number
	return ""
}

// Line is the line as it is in the log, without its newline: what was signed and
// hashed, to the byte.
func (e *Entry) Line() ([]byte, error) { return e.encode() }
