package attach

// replayBits is how far packets may overtake each other. 128 is two words; a
// link that is silent but for keep-alives does not need the thousands of a VPN.
const replayBits = 128

// A window takes each counter once (what RFC 6479 is for; with two words,
// shifting costs nothing and keeps the whole width). The zero value has seen
// nothing.
type window struct {
	next      uint64 // one more than the highest counter taken
	near, far uint64 // bit i of near: counter next-1-i was taken; far: the 64 before
}

// seen reports whether a counter was taken or is too old to tell.
func (w *window) seen(counter uint64) bool {
	if counter >= w.next {
		return false
	}
	switch age := w.next - 1 - counter; {
	case age < 64:
		return w.near>>age&1 != 0
	case age < replayBits:
		return w.far>>(age-64)&1 != 0
	}
	return true
}

// take marks a counter that is not seen. Call it only for a packet whose seal
// was good, else a forger moves the window.
func (w *window) take(counter uint64) {
	if counter >= w.next {
		w.shift(counter - w.next + 1)
		w.next = counter + 1
	}
	if age := w.next - 1 - counter; age < 64 {
		w.near |= 1 << age
	} else {
		w.far |= 1 << (age - 64)
	}
}

func (w *window) shift(by uint64) {
	// Shifts by 64 and more give zero in Go, so every case is one line.
	if by < 64 {
		w.far = w.far<<by | w.near>>(64-by)
	} else {
		w.far = w.near << (by - 64)
	}
	w.near <<= by
}
