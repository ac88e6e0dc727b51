package acl

import "slices"

// MaxPage is the most lines that Audit returns at once.
const MaxPage = 1000

// Audit returns up to limit lines (at most MaxPage; 0 is MaxPage) with a number
// above after, oldest first. Lines that cannot be read are left out: Verify
// tells of them.
func (s *Store) Audit(after uint64, limit int) ([]Entry, error) {
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	var page []Entry
	segments, path, _ := s.segments()
	for i, seg := range segments {
		if i+1 < len(segments) && segments[i+1].first != 0 && segments[i+1].first <= after+1 {
			continue
		}
		lines, err := readLines(path(seg.number))
		if missing(err) {
			continue // dropped meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if l.entry == nil || l.end > seg.size || l.entry.Number <= after {
				continue
			}
			if page = append(page, *l.entry); len(page) == limit {
				return page, nil
			}
		}
	}
	return page, nil
}

// segments returns what to read, as it is now.
func (s *Store) segments() ([]segment, func(int) string, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.audit.segments), s.audit.path, s.audit.last
}
