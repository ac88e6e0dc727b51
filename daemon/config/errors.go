package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Error is one mistake in a configuration file.
type Error struct {
	File string // as it was named
	Line int    // 1 is the first; 0 when no line is to blame
	Key  string // dotted, such as "device.listen"; "" when no key is to blame
	Text string // what is wrong and what is allowed
	Hint string // what was probably meant, or what to do; may be empty
	Err  error  // the cause, where there is one
}

// Error is "FILE:LINE: KEY: what is wrong (hint)".
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Text)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Errors are all mistakes of one file, in the order of its lines.
type Errors []*Error

// Error has one line for each mistake.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look into each mistake.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// blame reports whether one of the mistakes is in the given line.
func (es Errors) blame(line int) bool {
	return line > 0 && slices.ContainsFunc(es, func(e *Error) bool { return e.Line == line })
}

// sorted puts the mistakes into the order of the file, for whoever corrects it
// from top to bottom.
func (es Errors) sorted() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	return es
}

// Error makes an error about the given key of the service ("address", "type",
// or "" for the service as a whole), with its file and line.
func (s Service) Error(key string, err error) error {
	e := s.fault(key, err.Error())
	e.Err = err
	return e
}

func (s Service) fault(key, text string) *Error {
	line, ok := s.lines[key]
	if !ok {
		line = s.line
	}
	label := "service"
	if s.Name != "" {
		label = fmt.Sprintf("service %q", s.Name)
	}
	if key != "" {
		label += ": " + key
	}
	return &Error{File: s.file, Line: line, Key: label, Text: text}
}

// maxGuessDistance is how many typing mistakes a guess may repair: with three,
// "role" would be offered for "mode".
const maxGuessDistance = 2

// guess returns "did you mean ...?" when word is close to one of the known
// words, else "".
func guess(word string, known []string) string {
	best, bestDistance := "", maxGuessDistance+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); d < bestDistance && d < len(k) {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// distance counts the insertions, deletions and replacements between two words
// (Levenshtein). Words longer than any key of ours are simply far apart.
func distance(a, b string) int {
	if len(a) > 40 || len(b) > 40 {
		return maxGuessDistance + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
