package config

import (
	"fmt"

	"github.com/keyholed/keyhole/internal/settings"
)

// An Error is one mistake in a configuration file, with file, line and key.
type Error = settings.Error

// Errors are all mistakes of one file, in the order of its lines.
type Errors = settings.Errors

// Error makes an error about the given key of the service ("address", "type",
// or "" for the service as a whole), with its file and line.
func (s Service) Error(key string, err error) error {
	e := s.fault(key, err.Error())
	e.Err = err
	return e
}

func (s Service) fault(key, text string) *Error {
	line, ok := s.lines[key]
	if !ok {
		line = s.line
	}
	label := "service"
	if s.Name != "" {
		label = fmt.Sprintf("service %q", s.Name)
	}
	if key != "" {
		label += ": " + key
	}
	return &Error{File: s.file, Line: line, Key: label, Text: text}
}
