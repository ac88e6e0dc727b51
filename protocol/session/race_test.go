//go:build race

package session

// The race detector multiplies memory.
const raceless = false
