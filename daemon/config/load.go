package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFileBytes bounds what is read into memory. We chose it: a file with 64
// services and all comments has 20 kB.
const maxFileBytes = 256 << 10

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
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return Parse(data, path, o, checks...)
}

// Parse reads a configuration from memory. name is used in messages, and its
// directory is where relative paths begin. Mistakes come back as Errors.
func Parse(data []byte, name string, o Overrides, checks ...Check) (*Config, error) {
	if len(data) > maxFileBytes {
		return nil, Errors{tooLarge(name)}
	}
	lines, deep := indexLines(string(data))
	if deep > 0 {
		return nil, Errors{{File: name, Line: deep, Text: fmt.Sprintf("nested more than %d deep", maxDepth)}}
	}
	values := map[string]any{}
	if _, err := toml.Decode(string(data), &values); err != nil {
		return nil, Errors{syntaxError(name, string(data), err)}
	}
	c := Default()
	c.File, c.lines = name, lines
	d := decoder{file: name, lines: c.lines}
	d.config(c, values)
	c.resolve(filepath.Dir(name))
	if !c.names("limits", "tunnels_per_peer") {
		c.Limits.TunnelsPerPeer = min(c.Limits.TunnelsPerPeer, max(c.Limits.Tunnels, 1))
	}
	errs := append(d.errs, c.apply(o)...)
	faults, warnings := c.validate(checks)
	c.Warnings = append(d.later, warnings...).sorted()
	for _, e := range faults {
		if !d.errs.blame(e.Line) { // one mistake, one message: the value never arrived
			errs = append(errs, e)
		}
	}
	if len(errs) > 0 {
		return nil, errs.sorted()
	}
	return c, nil
}

// names reports whether the file itself gives the key a value.
func (c *Config) names(path ...string) bool { return c.lines[indexKey(path)] > 0 }

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(path, err)
	}
	if info.IsDir() {
		return nil, &Error{File: path, Text: "is a directory, not a configuration file"}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return data, nil
}

func unreadable(path string, err error) error {
	e := &Error{File: path, Text: err.Error(), Err: err}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		e.Text = pathError.Err.Error() // the path stands in front already
	}
	if errors.Is(err, fs.ErrNotExist) {
		e.Hint = "write one with: keyholed init --config " + path
	}
	return e
}

func tooLarge(name string) *Error {
	return &Error{File: name, Text: fmt.Sprintf("larger than %d KiB", maxFileBytes>>10)}
}

func syntaxError(name, text string, err error) *Error {
	var p toml.ParseError
	if !errors.As(err, &p) {
		return &Error{File: name, Text: err.Error(), Err: err}
	}
	line := p.Position.Line
	if line == 0 { // the library knows only the byte for some, such as a bad escape
		line = 1 + strings.Count(text[:min(p.Position.Start, len(text))], "\n")
	}
	if strings.Contains(p.Message, `got '\n'`) && line > 1 {
		line-- // the line end that surprises the library belongs to the line it ends
	}
	return &Error{File: name, Line: line, Key: p.LastKey, Text: p.Message, Err: err}
}
