package natsstore

import "context"

// Join opens a further handle onto the embedded server of s, which must be
// closed before s is.
func (s *Store) Join(ctx context.Context) (*Store, error) {
	return s.engine.open(ctx, Config{Name: s.names.name, Log: s.log})
}
