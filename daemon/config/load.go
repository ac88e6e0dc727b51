package config

import (
	"os"
	"path/filepath"

	"github.com/keyholed/keyhole/internal/settings"
)

// Overrides are what the command line says instead of the file. Zero fields
// change nothing. Relative paths are meant from the working directory.
type Overrides struct {
	State    string
	Identity string
	Listen   []string
	Socket   string
}

// A Check looks at one service with knowledge that is not in this package. It
// returns nil or errors made by Service.Error, joined if there are several.
type Check func(Service) error

// Path returns the file to read: the flag's value, else what the environment
// says in KEYHOLED_CONFIG, else DefaultPath.
func Path(flag string) string {
	if flag != "" {
		return flag
	}
	if env := os.Getenv(EnvPath); env != "" {
		return env
	}
	return DefaultPath
}

// Load reads the file at path. All mistakes come back together as Errors; a
// file that cannot be read is an *Error without a line that wraps the cause.
func Load(path string, o Overrides, checks ...Check) (*Config, error) {
	data, err := settings.Read(path, "write one with: keyholed init --config "+path)
	if err != nil {
		return nil, err
	}
	return Parse(data, path, o, checks...)
}

// Parse reads a configuration from memory. name is used in messages, and its
// directory is where relative paths begin. Mistakes come back as Errors.
func Parse(data []byte, name string, o Overrides, checks ...Check) (*Config, error) {
	doc, err := settings.Parse(data, name)
	if err != nil {
		return nil, err
	}
	c := Default()
	c.File, c.doc = name, doc
	d := newDecoder(doc)
	d.Decode(c)
	c.resolve(filepath.Dir(name))
	if !doc.Lines.Names("limits", "tunnels_per_peer") {
		c.Limits.TunnelsPerPeer = min(c.Limits.TunnelsPerPeer, max(c.Limits.Tunnels, 1))
	}
	overridden := c.apply(o)
	faults, warnings := c.validate(checks)
	c.Warnings = append(d.Warnings, warnings...).Sorted()
	if errs := append(overridden, d.Errs.Besides(faults)...); len(errs) > 0 {
		return nil, errs.Sorted()
	}
	return c, nil
}
