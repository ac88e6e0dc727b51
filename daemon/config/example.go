package config

import (
	_ "embed"
)

//go:embed keyholed.example.toml
var example []byte

// Example is the commented configuration that `keyholed init` writes. It names
// every setting there is.
func Example() []byte { return append([]byte(nil), example...) }
