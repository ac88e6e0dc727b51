//go:build race

package acl

// The race detector makes signatures and copies ten times as slow; it looks at
// one process, which few trials show as well as many.
const raceDetector = true
