package readiness

// ahead reads many records by one read(2): crypto/tls asks for one at a time.
// It holds a buffer only while there is something in it. Owned by the reader.
type ahead struct {
	held *spare
	from int // the first byte not taken
	to   int
	dry  bool // the last read did not fill the buffer: there was no more
}

// take gives what is held. It returns 0 where nothing is.
func (a *ahead) take(p []byte) int {
	if a.held == nil {
		return 0
	}
	n := copy(p, a.held[a.from:a.to])
	if a.from += n; a.from == a.to {
		giveSpareBack(a.held)
		a.held = nil
	}
	return n
}

// tryRead is TryRead of r by way of the buffer. A read that came short is not
// followed by one that finds nothing: whoever is told so waits, and WaitRead
// asks the system.
func (a *ahead) tryRead(r Reader, p []byte) (int, error) {
	if n := a.take(p); n > 0 {
		return n, nil
	}
	if a.dry {
		a.dry = false
		return 0, nil
	}
	b := borrowSpare()
	if b == nil {
		return r.TryRead(p)
	}
	n, err := r.TryRead(b[:])
	if n == 0 {
		giveSpareBack(b)
		return 0, err
	}
	a.held, a.from, a.to, a.dry = b, 0, n, n < len(b)
	return a.take(p), err
}
