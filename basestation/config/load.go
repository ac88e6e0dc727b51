package config

import (
	_ "embed"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/keyholed/keyhole/internal/settings"
)

//go:embed basestation.example.toml
var example []byte

// Example is a commented configuration that names every setting there is.
func Example() []byte { return slices.Clone(example) }

// An Error is one mistake, with file, line and key.
type Error = settings.Error

// Errors are all mistakes of one file, in the order of its lines.
type Errors = settings.Errors

// Overrides are what the command line says instead of the file. Zero fields
// change nothing. Relative paths are meant from the working directory.
type Overrides struct {
	Data      string
	Listen    []string
	Advertise []string
	API       *string // "" is none
	NATS      string
	Enrol     string
}

// Load reads the file at path, or DefaultPath if path is empty, which need not
// exist. All mistakes come back together as Errors; a file that cannot be read
// is an *Error without a line that wraps the cause.
func Load(path string, o Overrides) (*Config, error) {
	named := path != ""
	if !named {
		path = DefaultPath
	}
	data, err := settings.Read(path, "every setting has a default: leave --config out")
	if !named && errors.Is(err, fs.ErrNotExist) {
		return Parse(nil, "", o)
	}
	if err != nil {
		return nil, err
	}
	return Parse(data, path, o)
}

// Parse reads a configuration from memory. name is used in messages, and its
// directory is where relative paths begin. Mistakes come back as Errors.
func Parse(data []byte, name string, o Overrides) (*Config, error) {
	doc, err := settings.Parse(data, name)
	if err != nil {
		return nil, err
	}
	c := Default()
	c.File, c.doc = name, doc
	d := settings.Decoder{Document: doc}
	d.Special = func(into, value any, path []string) bool {
		hooks, ok := into.(*[]Webhook)
		if ok {
			settings.Sections(&d, hooks, value, path, maxWebhooks, func([]string, map[string]any) Webhook { return defaultWebhook() })
		}
		return ok
	}
	d.Decode(c)
	errs := c.apply(o)
	c.resolve()
	if errs = append(errs, d.Errs.Besides(c.validate())...); len(errs) > 0 {
		return nil, errs.Sorted()
	}
	return c, nil
}

// maxWebhooks bounds the consumers of the log.
const maxWebhooks = 16

// apply puts the command line's values over those of the file. A key that was
// overridden has no line any more: what is wrong with it is the flag's fault.
func (c *Config) apply(o Overrides) (errs Errors) {
	if o.Data != "" {
		absolute, err := filepath.Abs(o.Data)
		if err != nil {
			errs = append(errs, &Error{Key: "--data", Text: err.Error(), Err: err})
		}
		c.Basestation.Data = absolute
		c.doc.Lines.Forget("basestation", "data")
	}
	for _, f := range []struct {
		flag  string
		given []string
		into  *[]string
		check func(string) string
	}{
		{"--listen", o.Listen, &c.Basestation.Listen, settings.Listen},
		{"--advertise", o.Advertise, &c.Basestation.Advertise, checkAdvertise},
	} {
		for _, address := range f.given {
			if text := f.check(address); text != "" {
				errs = append(errs, &Error{Key: f.flag, Text: text})
				f.given = nil // the file's stay, so that one mistake is one message
				break
			}
		}
		if len(f.given) > 0 {
			*f.into = f.given
		}
	}
	if o.API != nil {
		if text := settings.Listen(*o.API); *o.API != "" && text != "" {
			errs = append(errs, &Error{Key: "--api", Text: text})
		} else {
			c.API.Listen = *o.API
		}
	}
	if o.NATS != "" {
		if text := checkNATS(o.NATS); text != "" {
			errs = append(errs, &Error{Key: "--nats", Text: text})
		} else {
			c.Store.NATS = o.NATS
		}
	}
	if o.Enrol != "" {
		if text, hint := enrolModes.Check(o.Enrol); text != "" {
			errs = append(errs, &Error{Key: "--enrol", Text: text, Hint: hint})
		} else {
			c.Enrol.Mode = o.Enrol
		}
	}
	return errs
}

// resolve makes paths absolute: the data directory and the files that the
// configuration names are meant from its own directory, the default names of
// secrets from the data directory.
func (c *Config) resolve() {
	from := filepath.Dir(c.File)
	beside := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(from, *path)
		}
		if *path != "" {
			if absolute, err := filepath.Abs(*path); err == nil {
				*path = absolute
			}
		}
	}
	beside(&c.Basestation.Data)
	inData := func(path *string, name string) {
		if *path == "" {
			*path = filepath.Join(c.Basestation.Data, name)
			return
		}
		beside(path)
	}
	inData(&c.Enrol.Master, "master.secret")
	inData(&c.Authorize.SecretFile, "authorize.secret")
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		inData(&w.SecretFile, "webhook-"+filepath.Base(w.Name)+".secret")
		beside(&w.Roots)
	}
	for _, path := range []*string{&c.Store.Credentials, &c.Store.Roots, &c.Store.Certificate, &c.Store.Key, &c.API.Certificate, &c.API.Key, &c.Authorize.Roots, &c.Authorize.Deny, &c.Authorize.Countries} {
		beside(path)
	}
}
