package settings

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A Decoder carries the values of a Document into structs whose fields have toml
// tags. Unlike the TOML library's own decoding it goes on after a mistake and
// knows the line of each key. Fields may be string, bool, int, time.Duration,
// []string, structs, and whatever Special takes.
type Decoder struct {
	*Document

	// Special, if set, is offered each field first, as a pointer, and reports
	// whether it has taken value.
	Special func(into, value any, path []string) bool
	// Later has the dotted keys that belong to later versions, with what to
	// say of them: warnings, so that one file serves several versions, and never
	// silence.
	Later map[string]string

	Errs     Errors
	Warnings Errors
}

// Decode fills the struct that into points to.
func (d *Decoder) Decode(into any) {
	d.Table(into, d.values, nil)
}

// Table fills the struct that into points to from values, a table that stands
// at the path at.
func (d *Decoder) Table(into any, values map[string]any, at []string) {
	d.table(reflect.ValueOf(into).Elem(), values, at)
}

func (d *Decoder) table(into reflect.Value, values map[string]any, at []string) {
	fields := Keys(into.Type())
	for _, key := range slices.Sorted(maps.Keys(values)) {
		path := append(slices.Clone(at), key)
		i, ok := fields[key]
		if !ok {
			d.unknown(path, slices.Sorted(maps.Keys(fields)))
			continue
		}
		d.value(into.Field(i), values[key], path)
	}
}

func (d *Decoder) value(into reflect.Value, value any, path []string) {
	if d.Special != nil && d.Special(into.Addr().Interface(), value, path) {
		return
	}
	switch target := into.Addr().Interface().(type) {
	case *string:
		take(d, target, value, path, `a string in quotes`)
	case *bool:
		take(d, target, value, path, "true or false, without quotes")
	case *int:
		if n, ok := value.(int64); ok && int64(int(n)) == n {
			*target = int(n)
			return
		}
		d.WrongType(path, "a whole number", value)
	case *time.Duration:
		d.duration(target, value, path)
	case *[]string:
		if list, ok := stringList(value); ok {
			*target = list
			return
		}
		d.WrongType(path, `a list of strings, such as ["a", "b"]`, value)
	default:
		table, ok := value.(map[string]any)
		if !ok {
			d.WrongType(path, "a section: ["+strings.Join(path, ".")+"]", value)
			return
		}
		d.table(into, table, path)
	}
}

func take[T any](d *Decoder, into *T, value any, path []string, want string) {
	v, ok := value.(T)
	if !ok {
		d.WrongType(path, want, value)
		return
	}
	*into = v
}

func (d *Decoder) duration(into *time.Duration, value any, path []string) {
	s, ok := value.(string)
	if !ok {
		d.WrongType(path, `a duration in quotes, such as "90s" or "2h"`, value)
		return
	}
	duration, err := time.ParseDuration(s)
	if err != nil {
		d.Fail(path, fmt.Sprintf(`%s is no duration: want a number with a unit, such as "90s" or "2h"`, Quote(s)), "")
		return
	}
	*into = duration
}

func (d *Decoder) unknown(path, known []string) {
	key := path[len(path)-1]
	if text, ok := d.Later[Dotted(path)]; ok {
		d.Warnings = append(d.Warnings, d.Fault(text, "", path...))
		return
	}
	hint := Guess(key, known)
	if hint == "" {
		hint = "known here: " + strings.Join(known, ", ")
	}
	d.Fail(path, "unknown key", hint)
}

// WrongType blames the key at path for its value.
func (d *Decoder) WrongType(path []string, want string, got any) {
	d.Fail(path, fmt.Sprintf("want %s, got %s", want, kindOf(got)), "")
}

// Fail blames the key at path.
func (d *Decoder) Fail(path []string, text, hint string) {
	d.Errs = append(d.Errs, d.Fault(text, hint, path...))
}

// Keys maps the TOML keys of a struct to its fields.
func Keys(t reflect.Type) map[string]int {
	keys := map[string]int{}
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("toml"); key != "" && key != "-" {
			keys[key] = i
		}
	}
	return keys
}

// Tables returns the tables of a list: [[name]] sections, or a list of inline
// tables. ok is false for anything else.
func Tables(value any) (tables []map[string]any, ok bool) {
	switch v := value.(type) {
	case []map[string]any:
		return v, true
	case []any:
		tables := make([]map[string]any, 0, len(v))
		for _, member := range v {
			table, ok := member.(map[string]any)
			if !ok {
				return nil, false
			}
			tables = append(tables, table)
		}
		return tables, true
	}
	return nil, false
}

func kindOf(value any) string {
	switch v := value.(type) {
	case string:
		return "the string " + Quote(v)
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return fmt.Sprintf("the number %v", v)
	case bool:
		return fmt.Sprintf("%v", v)
	case time.Time:
		return "a date"
	case []any:
		return "a list"
	case map[string]any, []map[string]any:
		return "a section"
	}
	return fmt.Sprintf("%T", value)
}

func stringList(value any) ([]string, bool) {
	values, ok := value.([]any)
	if !ok {
		return nil, false
	}
	list := make([]string, 0, len(values))
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}
