package config

import (
	"reflect"
	"slices"

	"github.com/keyholed/keyhole/internal/settings"
)

// Changes says what differs between two configurations, as dotted keys such as
// "pairing.role"; all of the services count as one key, "service".
type Changes struct {
	Live    []string // what a reload takes over
	Restart []string // what stays as it was until keyholed is restarted
}

// None reports whether nothing differs.
func (c Changes) None() bool { return len(c.Live) == 0 && len(c.Restart) == 0 }

// Compare returns what changed from the running configuration to a new one.
func Compare(running, next *Config) Changes {
	var c Changes
	c.walk(reflect.ValueOf(running).Elem(), reflect.ValueOf(next).Elem(), nil)
	return c
}

func (c *Changes) walk(running, next reflect.Value, path []string) {
	for i := range running.NumField() {
		field := running.Type().Field(i)
		key := field.Tag.Get("toml")
		if key == "" || key == "-" {
			continue
		}
		at := append(slices.Clone(path), key)
		a, b := running.Field(i), next.Field(i)
		switch {
		case field.Type.Kind() == reflect.Struct:
			c.walk(a, b, at)
		case same(a.Interface(), b.Interface()):
		case field.Tag.Get("reload") == "live":
			c.Live = append(c.Live, settings.Dotted(at))
		default:
			c.Restart = append(c.Restart, settings.Dotted(at))
		}
	}
}

func same(a, b any) bool {
	switch a := a.(type) {
	case []Service:
		return slices.EqualFunc(a, b.([]Service), Service.Equal)
	case []Authority:
		return slices.EqualFunc(a, b.([]Authority), Authority.Equal)
	case []Role:
		return slices.EqualFunc(a, b.([]Role), Role.Equal)
	case []string:
		return slices.Equal(a, b.([]string)) // absent and empty are the same
	}
	return a == b
}

// Equal reports whether two services are the same to a client, wherever they
// stand in their files.
func (s Service) Equal(o Service) bool {
	o.file, o.lines, o.line = s.file, s.lines, s.line
	return reflect.DeepEqual(s, o) // so that no setting is forgotten
}
