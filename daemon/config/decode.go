package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder carries TOML values into a Config. Unlike the TOML library's own
// decoding it goes on after a mistake and knows the line of each key.
type decoder struct {
	file  string
	lines lineIndex
	errs  Errors
	later Errors // warnings
}

// later are sections that belong to later versions: warnings, so that one file
// serves several versions, and never silence, because the owner has a device
// that does less than its file says.
var later = map[string]string{
	"basestation": "attaching to a basestation is not in this version, which serves the local network only",
}

func (d *decoder) config(c *Config, values map[string]any) {
	d.table(reflect.ValueOf(c).Elem(), values, nil)
}

// table fills the fields of the struct into from values. at is the path of the
// table, as the line index has it.
func (d *decoder) table(into reflect.Value, values map[string]any, at []string) {
	fields := keysOf(into.Type())
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

func (d *decoder) value(into reflect.Value, value any, path []string) {
	switch target := into.Addr().Interface().(type) {
	case *string:
		if s, ok := value.(string); ok {
			*target = s
			return
		}
		d.wrongType(path, `a string in quotes`, value)
	case *int:
		if n, ok := value.(int64); ok && int64(int(n)) == n {
			*target = int(n)
			return
		}
		d.wrongType(path, "a whole number", value)
	case *time.Duration:
		s, ok := value.(string)
		if !ok {
			d.wrongType(path, `a duration in quotes, such as "90s" or "2h"`, value)
			return
		}
		duration, err := time.ParseDuration(s)
		if err != nil {
			d.fail(path, fmt.Sprintf(`%s is no duration: want a number with a unit, such as "90s" or "2h"`, quote(s)), "")
			return
		}
		*target = duration
	case *[]string:
		if list, ok := stringList(value); ok {
			*target = list
			return
		}
		d.wrongType(path, `a list of strings, such as ["a", "b"]`, value)
	case *[]Service:
		d.services(target, value, path)
	default:
		table, ok := value.(map[string]any)
		if !ok {
			d.wrongType(path, "a section: ["+strings.Join(path, ".")+"]", value)
			return
		}
		d.table(into, table, path)
	}
}

// maxServices bounds the table that every connect looks into.
const maxServices = 64

func (d *decoder) services(into *[]Service, value any, path []string) {
	tables, ok := tableList(value)
	if !ok {
		d.wrongType(path, "a list of sections: write [[service]] with double brackets", value)
		return
	}
	if len(tables) > maxServices {
		d.fail(path, fmt.Sprintf("%d services: at most %d are allowed", len(tables), maxServices), "")
		return
	}
	for i, table := range tables {
		at := append(slices.Clone(path), strconv.Itoa(i))
		s := defaultService()
		s.file, s.line, s.lines = d.file, d.lines.of(at), map[string]int{}
		for key := range table {
			s.lines[key] = d.lines.of(append(slices.Clone(at), key))
		}
		d.table(reflect.ValueOf(&s).Elem(), table, at)
		*into = append(*into, s)
	}
}

func (d *decoder) unknown(path, known []string) {
	key := path[len(path)-1]
	if text, ok := later[dotted(path)]; ok {
		d.later = append(d.later, &Error{File: d.file, Line: d.lines.of(path), Key: dotted(path), Text: text})
		return
	}
	hint := guess(key, known)
	if hint == "" {
		hint = "known here: " + strings.Join(known, ", ")
	}
	d.fail(path, "unknown key", hint)
}

func (d *decoder) wrongType(path []string, want string, got any) {
	d.fail(path, fmt.Sprintf("want %s, got %s", want, kindOf(got)), "")
}

func (d *decoder) fail(path []string, text, hint string) {
	d.errs = append(d.errs, &Error{File: d.file, Line: d.lines.of(path), Key: dotted(path), Text: text, Hint: hint})
}

// keysOf maps the TOML keys of a struct to its fields.
func keysOf(t reflect.Type) map[string]int {
	keys := map[string]int{}
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("toml"); key != "" && key != "-" {
			keys[key] = i
		}
	}
	return keys
}

// dotted is a path for people: without the numbers of list members, and with
// anything strange quoted.
func dotted(path []string) string {
	var parts []string
	for i, p := range path {
		if _, err := strconv.Atoi(p); err == nil && i > 0 {
			continue
		}
		if quoted := quote(p); strings.ContainsAny(p, ". ") || quoted != `"`+p+`"` {
			p = quoted
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, ".")
}

// maxQuoted keeps messages about hostile values short.
const maxQuoted = 80

func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.Quote(s[:maxQuoted]) + "…"
	}
	return strconv.Quote(s)
}

func kindOf(value any) string {
	switch v := value.(type) {
	case string:
		return "the string " + quote(v)
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

// tableList accepts [[service]] sections and a list of inline tables.
func tableList(value any) ([]map[string]any, bool) {
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
