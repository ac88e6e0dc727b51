package basestation

// A roster is who is attached, by the small numbers of the attach node: sixteen
// bytes a device, to go through them all a part at a time.
type roster struct {
	entries []rosterEntry
}

type rosterEntry struct {
	index  uint64
	prefix uint16
	here   bool // else the entry is empty
}

func (r *roster) add(slot uint32, index uint64, prefix uint16) {
	for int(slot) >= len(r.entries) {
		r.entries = append(r.entries, rosterEntry{})
	}
	r.entries[slot] = rosterEntry{index, prefix, true}
}

func (r *roster) remove(slot uint32, index uint64) {
	if int(slot) < len(r.entries) && r.entries[slot].index == index {
		r.entries[slot] = rosterEntry{}
	}
}
