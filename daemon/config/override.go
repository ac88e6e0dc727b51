package config

import (
	"path/filepath"

	"github.com/keyholed/keyhole/internal/settings"
)

// resolve makes the paths of the file absolute: a relative one is meant from
// the file's own directory, wherever keyholed was started.
func (c *Config) resolve(dir string) {
	paths := []*string{&c.Device.State, &c.Device.Identity, &c.Basestation.SecretFile, &c.Central.Roots}
	for _, keys := range [][]string{c.Central.Keys, c.Central.ListKeys} {
		for i := range keys {
			if IsKeyFile(keys[i]) {
				paths = append(paths, &keys[i])
			}
		}
	}
	paths = append(paths, c.authorityPaths()...)
	for i := range c.Services {
		paths = append(paths, &c.Services[i].Credentials)
	}
	for _, path := range paths {
		if *path == "" {
			continue
		}
		if !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
		if absolute, err := filepath.Abs(*path); err == nil {
			*path = absolute
		}
	}
}

// apply puts the command line's values over those of the file. A key that was
// overridden has no line any more: what is wrong with it is the flag's fault.
func (c *Config) apply(o Overrides) (errs Errors) {
	paths := []struct {
		flag string
		into *string
		from string
		key  string
	}{
		{"--state", &c.Device.State, o.State, "state"},
		{"--identity", &c.Device.Identity, o.Identity, "identity"},
		{"--socket", &c.Socket, o.Socket, ""},
	}
	for _, p := range paths {
		if p.from == "" {
			continue
		}
		absolute, err := filepath.Abs(p.from)
		if err != nil {
			errs = append(errs, &Error{Key: p.flag, Text: err.Error(), Err: err})
			continue
		}
		*p.into = absolute
		c.doc.Lines.Forget("device", p.key)
	}
	if len(o.Listen) == 0 {
		return errs
	}
	for _, address := range o.Listen {
		if text := settings.Listen(address); text != "" {
			errs = append(errs, &Error{Key: "--listen", Text: text})
			return errs // the file's addresses stay, so that one mistake is one message
		}
	}
	c.Device.Listen = o.Listen
	return errs
}
