package acl

import (
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A signature for each line that changes permission: what it costs with a key in
// a file. A TPM takes some thousand times as long, which is why other lines have none.
func BenchmarkSignLine(b *testing.B) {
	key, err := identity.Generate()
	if err != nil {
		b.Fatal(err)
	}
	e := &Entry{Event: about(WhatPaired, &User{Name: "Alice", Role: RoleOwner}, fp(1))}
	for b.Loop() {
		if _, err := e.sign(key); err != nil {
			b.Fatal(err)
		}
	}
}

// One change, synced in the log and both copies, on the disk of the temporary directory.
func BenchmarkChange(b *testing.B) {
	s := newBench(b)
	s.enter(1, "Alice", "")
	s.enter(2, "Bob", RoleViewer)
	roles := []string{RoleAdmin, RoleViewer}
	for i := 0; b.Loop(); i++ {
		if _, err := s.SetRole("Bob", roles[i%2], testBy); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	s := newBench(b)
	for b.Loop() {
		s.flood = flood{}
		s.record(1)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	prepareLargest(b, dir)
	for b.Loop() {
		s, err := Open(childOptions(dir))
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
