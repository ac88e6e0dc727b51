package tunnel

// A passage is a piece of HTTP on its way through a watch: p[kept:at] has been looked
// at and may go on, and has not gone yet, so that whole pieces go on as they came.
type passage struct {
	f        *flow
	p        []byte
	kept, at int
}

// step looks at the next part of a message. Begins is told the head of each message, once it is
// whole and before it goes on.
func (x *passage) step(scan *httpScanner, begins func(head []byte) error) error {
	begun := scan.part == partHead
	n, head, held, err := scan.step(x.p[x.at:])
	if err == nil && head != nil && begun {
		err = begins(head)
	}
	if err != nil {
		return err
	}
	before, end := x.p[x.kept:x.at], x.at+n
	x.at = end
	switch {
	case head != nil && len(head) != n: // its beginning came with an earlier piece
		x.kept = end
		return writeAll(x.f, before, head)
	case head == nil && held:
		x.kept = end
		return writeAll(x.f, before)
	}
	return nil
}

// send has what was looked at go on.
func (x *passage) send() error {
	before := x.p[x.kept:x.at]
	x.kept = x.at
	return writeAll(x.f, before)
}

// rest has all of it go on.
func (x *passage) rest() error {
	x.at = len(x.p)
	return x.send()
}
