// Package settings reads a program's configuration: one TOML file, strictly,
// with the line of every key, so that each mistake names file, line and key and
// all mistakes of a file are told together.
//
// The configurations of keyholed and of keyhole-basestation use it; it is the
// one door to the TOML library. It knows no setting: which keys there are is
// said by the struct that is filled, and what their values may be by its owner.
package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// MaxFileBytes bounds what is read into memory. We chose it: a file with 64
// services and all comments has 20 kB.
const MaxFileBytes = 256 << 10

// A Document is one file, read and not yet understood.
type Document struct {
	File   string // as it was named, for messages
	Lines  Lines
	values map[string]any
}

// Read returns the bytes of the file at path, MaxFileBytes and one at most, so
// that Parse can tell that it was larger. Its errors are *Error without a line;
// of a missing file hint says what to do.
func Read(path, hint string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, hint, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(path, hint, err)
	}
	if info.IsDir() {
		return nil, &Error{File: path, Text: "is a directory, not a configuration file"}
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, unreadable(path, hint, err)
	}
	return data, nil
}

// Parse reads TOML from memory. name is for messages. What is no TOML comes
// back as Errors, one of them.
func Parse(data []byte, name string) (*Document, error) {
	if len(data) > MaxFileBytes {
		return nil, Errors{{File: name, Text: fmt.Sprintf("larger than %d KiB", MaxFileBytes>>10)}}
	}
	lines, deep := indexLines(string(data))
	if deep > 0 {
		return nil, Errors{{File: name, Line: deep, Text: fmt.Sprintf("nested more than %d deep", maxDepth)}}
	}
	d := &Document{File: name, Lines: lines, values: map[string]any{}}
	if _, err := toml.Decode(string(data), &d.values); err != nil {
		return nil, Errors{syntaxError(name, string(data), err)}
	}
	return d, nil
}

// Fault is a mistake about the key at path.
func (d *Document) Fault(text, hint string, path ...string) *Error {
	return &Error{File: d.File, Line: d.Lines.Of(path), Key: Dotted(path), Text: text, Hint: hint}
}

func unreadable(path, hint string, err error) error {
	e := &Error{File: path, Text: err.Error(), Err: err}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		e.Text = pathError.Err.Error() // the path stands in front already
	}
	if errors.Is(err, fs.ErrNotExist) {
		e.Hint = hint
	}
	return e
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

// Lacks lists the keys of the struct t, dotted, that the document does not name: of a list of
// sections any may. An example of a configuration lacks nothing.
func (d *Document) Lacks(t reflect.Type) []string { return lacks(t, d.values, "") }

func lacks(t reflect.Type, values map[string]any, at string) (missing []string) {
	for key, i := range Keys(t) {
		value, ok := values[key]
		of := t.Field(i).Type
		if of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct {
			tables, list := Tables(value)
			if of = of.Elem(); list && len(tables) > 0 {
				all := map[string]any{}
				for _, table := range tables {
					maps.Copy(all, table)
				}
				value = all
			}
		}
		table, isTable := value.(map[string]any)
		switch {
		case !ok:
			missing = append(missing, at+key)
		case of.Kind() == reflect.Struct && isTable:
			missing = append(missing, lacks(of, table, at+key+".")...)
		}
	}
	slices.Sort(missing)
	return missing
}
