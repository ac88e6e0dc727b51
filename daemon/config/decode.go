package config

import (
	"slices"

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
	case *[]Authority:
		d.authorities(into, value, path)
		return true
	case *[]AuthorityUser:
		d.authorityUsers(into, value, path)
		return true
	case *[]Role:
		d.roles(into, value, path)
		return true
	case *[]string:
		// One address and one key are the common case.
		one, ok := value.(string)
		if ok = ok && (path[0] == "basestation" || path[0] == "central"); ok {
			*into = []string{one}
		}
		return ok
	}
	return false
}

// maxServices bounds the table that every connect looks into.
const maxServices = 64

func (d *decoder) services(into *[]Service, value any, path []string) {
	settings.Sections(&d.Decoder, into, value, path, maxServices, func(at []string, keys map[string]any) Service {
		s := defaultService()
		s.file, s.line, s.lines = d.File, d.Lines.Of(at), map[string]int{}
		for key := range keys {
			s.lines[key] = d.Lines.Of(append(slices.Clone(at), key))
		}
		return s
	})
}
