package natsstore

import "context"

// Join opens a further handle onto the embedded server of s, which must be
// closed before s is.
func (s *Store) Join(ctx context.Context) (*Store, error) {
	return s.engine.open(ctx, Config{Name: s.names.name, Log: s.log})
}

// Examine runs the look through all records that an embedded store does by
// itself some time after its start.
func (s *Store) Examine(ctx context.Context) error { return s.examine(ctx, 0) }
