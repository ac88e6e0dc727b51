//go:build !race

package session

const raceless = true
