package config

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/keyholed/keyhole/internal/settings"
)

// later are sections that belong to later versions: warnings, because the owner
// has a device that does less than its file says.
var later = map[string]string{
	"basestation": "attaching to a basestation is not in this version, which serves the local network only",
}

// decoder carries a document into a Config.
type decoder struct {
	settings.Decoder
}

func newDecoder(doc *settings.Document) *decoder {
	d := &decoder{settings.Decoder{Document: doc, Later: later}}
	d.Special = d.special
	return d
}

func (d *decoder) special(into, value any, path []string) bool {
	services, ok := into.(*[]Service)
	if ok {
		d.services(services, value, path)
	}
	return ok
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
