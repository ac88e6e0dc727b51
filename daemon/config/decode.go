package config

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/keyholed/keyhole/internal/settings"
)

// decoder carries a document into a Config.
type decoder struct {
	settings.Decoder
}

func newDecoder(doc *settings.Document) *decoder {
	d := &decoder{settings.Decoder{Document: doc}}
	d.Special = d.special
	return d
}

func (d *decoder) special(into, value any, path []string) bool {
	switch into := into.(type) {
	case *[]Service:
		d.services(into, value, path)
		return true
	case *[]string:
		// One address and one key are the common case.
		one, ok := value.(string)
		if ok = ok && path[0] == "basestation"; ok {
			*into = []string{one}
		}
		return ok
	}
	return false
}

// maxServices bounds the table that every connect looks into.
const maxServices = 64

func (d *decoder) services(into *[]Service, value any, path []string) {
	tables, ok := settings.Tables(value)
	if !ok {
		d.WrongType(path, "a list of sections: write [[service]] with double brackets", value)
		return
	}
	if len(tables) > maxServices {
		d.Fail(path, fmt.Sprintf("%d services: at most %d are allowed", len(tables), maxServices), "")
		return
	}
	for i, table := range tables {
		at := append(slices.Clone(path), strconv.Itoa(i))
		s := defaultService()
		s.file, s.line, s.lines = d.File, d.Lines.Of(at), map[string]int{}
		for key := range table {
			s.lines[key] = d.Lines.Of(append(slices.Clone(at), key))
		}
		d.Table(&s, table, at)
		*into = append(*into, s)
	}
}
