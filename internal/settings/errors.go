package settings

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

// Blames reports whether one of the mistakes is in the given line.
func (es Errors) Blames(line int) bool {
	return line > 0 && slices.ContainsFunc(es, func(e *Error) bool { return e.Line == line })
}

// Sorted puts the mistakes into the order of the file, for whoever corrects it
// from top to bottom.
func (es Errors) Sorted() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	return es
}

// Besides adds those faults whose lines are not blamed yet: one mistake, one
// message. A value of the wrong type never arrived, and must not be called empty
// as well.
func (es Errors) Besides(faults Errors) Errors {
	all := slices.Clone(es)
	for _, e := range faults {
		if !es.Blames(e.Line) {
			all = append(all, e)
		}
	}
	return all
}
