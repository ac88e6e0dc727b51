package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MediaJSONLines is what GET /v1/audit answers where Accept, or ?format=jsonl, asks
// for it: the whole log behind `after`, each line as it was signed and hashed, and
// one signed line more that says which was the last.
const MediaJSONLines = "application/jsonl"

// AuditEnd is the kind of that last line, which is not in the log.
const AuditEnd = "end"

// MaxAuditBytes bounds such an answer: twice the largest log.
const MaxAuditBytes = 8 << 20

// AuditLine is an entry of the audit log for people to read. What only programs
// need (signatures, hashes, the users themselves) is left out.
type AuditLine struct {
	Number      uint64    `json:"n"`
	Time        time.Time `json:"time"`
	Unset       bool      `json:"clock_unset"`
	What        string    `json:"what"`
	By          AuditBy   `json:"by"`
	User        string    `json:"user"`
	Fingerprint string    `json:"fingerprint"`
	Kind        string    `json:"kind"`
	Role        string    `json:"role"`
	Action      string    `json:"action"`
	Service     string    `json:"service"`
	Path        string    `json:"path"`
	Way         string    `json:"way"`
	Source      string    `json:"source"`
	Up          uint64    `json:"up"`
	Down        uint64    `json:"down"`
	Millis      int64     `json:"ms"`
	Result      string    `json:"result"`
	Why         string    `json:"why"`
	Times       uint64    `json:"times"`
	Detail      string    `json:"detail"`
	Missed      uint64    `json:"missed"`
}

// AuditBy is who did it.
type AuditBy struct {
	User        string `json:"user"`
	Kind        string `json:"kind"`
	Fingerprint string `json:"fingerprint"`
	Via         string `json:"via"`
	Way         string `json:"way"`
	Source      string `json:"source"`
}

// ParseAuditLine reads one entry. Members that it does not know are left out.
func ParseAuditLine(line []byte) (AuditLine, error) {
	var l AuditLine
	if err := json.Unmarshal(line, &l); err != nil {
		return AuditLine{}, fmt.Errorf("not an entry of the audit log: %w", err)
	}
	return l, nil
}

// AuditRows are the lines of an export in words, each as Columns returns it. unset
// says that one of them has the mark that AuditClock explains.
func AuditRows(export []byte, zone *time.Location) (rows [][]string, unset bool, err error) {
	for line := range bytes.Lines(export) {
		l, err := ParseAuditLine(line)
		if err != nil {
			return nil, false, err
		}
		if l.What == AuditEnd {
			break
		}
		unset = unset || l.Unset
		rows = append(rows, l.Columns(zone))
	}
	return rows, unset, nil
}

// AuditColumns are the heads of what Columns returns.
var AuditColumns = []string{"NUMBER", "TIME", "WHO", "WHAT", "HOW"}

// AuditClock explains the mark that Columns puts behind a time.
const AuditClock = "* the device's clock was not set then"

// unsetMark is behind a time at which the clock was not known to be right.
const unsetMark = "*"

// Columns is the line in words, times in the zone of where it is read. Nothing in
// it can steer a terminal.
func (l AuditLine) Columns(zone *time.Location) []string {
	when := l.Time.In(zone).Format(time.DateTime)
	if l.Unset {
		when += unsetMark
	}
	out := []string{fmt.Sprint(l.Number), when, l.who(), l.what(), l.how()}
	for i := range out {
		out[i] = Printable(out[i])
	}
	return out
}

// who is whoever did it, as far as he is known.
func (l AuditLine) who() string {
	name, key, kind := l.By.User, l.By.Fingerprint, l.By.Kind
	if l.By == (AuditBy{}) {
		name, key, kind = l.User, l.Fingerprint, l.Kind
	}
	switch {
	case name != "" && kind != "" && !strings.Contains(name, kind):
		return name + " (" + kind + ")"
	case name != "":
		return name
	case kind != "" && key != "":
		return kind + " " + shortKey(key)
	case kind != "":
		return kind
	case key != "":
		return "key " + shortKey(key)
	case l.By.Via != "":
		return l.By.Via
	}
	return "-"
}

// shortKey is what people compare of a fingerprint.
func shortKey(f string) string { return f[:min(len(f), 16)] }

// what it was, and to whom.
func (l AuditLine) what() string {
	words := []string{l.What}
	if l.By != (AuditBy{}) && l.User != "" {
		words = append(words, l.User)
	}
	for _, w := range []string{l.Action, l.Service} {
		if w != "" {
			words = append(words, w)
		}
	}
	if l.Role != "" {
		words = append(words, "as "+l.Role)
	}
	if l.Times > 1 {
		words = append(words, fmt.Sprintf("%d times", l.Times))
	}
	return strings.Join(words, " ")
}

func (l AuditLine) how() string {
	var words []string
	add := func(format, s string) {
		if s != "" {
			words = append(words, fmt.Sprintf(format, s))
		}
	}
	add("%s", l.Detail)
	add("%s", strings.TrimSpace(first(l.Path, l.By.Via)+" "+first(l.Way, l.By.Way)))
	add("from %s", first(l.Source, l.By.Source))
	if l.Up+l.Down > 0 {
		words = append(words, fmt.Sprintf("%s up, %s down", Bytes(l.Up), Bytes(l.Down)))
	}
	if l.Millis > 0 {
		words = append(words, (time.Duration(l.Millis) * time.Millisecond).Round(max(time.Millisecond, 100*time.Millisecond)).String())
	}
	add("%s", l.Result)
	add("%s", l.Why)
	if l.Missed > 0 {
		words = append(words, fmt.Sprintf("%d before it came too fast to be written", l.Missed))
	}
	return strings.Join(words, ", ")
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Bytes is a number of bytes for people, in powers of 1,000.
func Bytes(n uint64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// Printable keeps what strangers wrote from steering a terminal: what is not printable
// becomes a question mark.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
