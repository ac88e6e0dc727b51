//go:build !unix

package basestation

// lockDir does nothing: a basestation runs on Unix systems.
func lockDir(string) (unlock func(), err error) { return func() {}, nil }
