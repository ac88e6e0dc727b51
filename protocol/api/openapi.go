package api

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// An Operation describes one route for the OpenAPI document. The device keeps
// it beside the handler, so that the two cannot drift apart.
type Operation struct {
	Method  string // GET, POST, …
	Path    string // as http.ServeMux and OpenAPI both write it: /v1/users/{name}
	Summary string // one sentence
	Action  string // what the access list is asked for; "" when no permission is needed
	Query   []Parameter
	Words   []Parameter // of the query string, too, but text
	Request any         // zero value of the body type; nil: no body
	Answer  any         // zero value of the body type; nil: no body
	Stream  string      // media type when the answer is a stream and Answer the type of one item
	Refuses []Code      // beyond the ones every operation may answer
}

// A Parameter of the query string: a whole number, or text in Words.
type Parameter struct {
	Name    string
	Summary string
}

// OpenAPI returns the OpenAPI 3.1 document of a device's operations as JSON.
func OpenAPI(title, version string, operations []Operation) ([]byte, error) {
	return Document{Title: title, Version: version, Operations: operations, Scheme: "key", Security: map[string]any{
		"type": "mutualTLS", "description": "a client key that the device has paired",
	}}.JSON()
}

// A Document describes an interface: its operations, and how a caller proves
// itself to those that have an action.
type Document struct {
	Title, Version string
	Operations     []Operation
	Scheme         string         // name of the security scheme
	Security       map[string]any // the scheme itself (OpenAPI 3.1, security scheme object)
}

// JSON returns the OpenAPI 3.1 document.
func (doc Document) JSON() ([]byte, error) {
	schemas := schemaSet{}
	paths := map[string]map[string]any{}
	for _, op := range doc.Operations {
		if paths[op.Path] == nil {
			paths[op.Path] = map[string]any{}
		}
		paths[op.Path][strings.ToLower(op.Method)] = op.describe(schemas, doc.Scheme)
	}
	schemas.add(reflect.TypeFor[Problem]())
	return json.MarshalIndent(map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": doc.Title, "version": doc.Version},
		"paths":   paths,
		"components": map[string]any{
			"schemas":         schemas,
			"securitySchemes": map[string]any{doc.Scheme: doc.Security},
		},
	}, "", "  ")
}

func (op Operation) describe(schemas schemaSet, scheme string) map[string]any {
	answers := map[string]any{}
	ok := map[string]any{"description": "done"}
	if op.Answer != nil {
		media := "application/json"
		if op.Stream != "" {
			media = op.Stream
		}
		ok["content"] = map[string]any{media: map[string]any{"schema": schemas.add(reflect.TypeOf(op.Answer))}}
	}
	answers["200"] = ok
	refuses := append([]Code{CodeLimit, CodeInternal}, op.Refuses...)
	if op.Action != "" {
		refuses = append(refuses, CodeForbidden)
	}
	if op.Request != nil {
		refuses = append(refuses, CodeMalformed, CodeTooLarge, CodeMedia)
	}
	for _, code := range refuses {
		answers[strconv.Itoa(statusOf[code])] = map[string]any{
			"description": titles[code],
			"content":     map[string]any{ProblemMediaType: map[string]any{"schema": refTo("Problem")}},
		}
	}
	d := map[string]any{"summary": op.Summary, "responses": answers}
	if op.Action != "" {
		d["security"] = []any{map[string]any{scheme: []string{}}}
		d["x-keyhole-action"] = op.Action
	}
	if parameters := op.parameters(); len(parameters) > 0 {
		d["parameters"] = parameters
	}
	if op.Request != nil {
		d["requestBody"] = map[string]any{"required": true, "content": map[string]any{
			"application/json": map[string]any{"schema": schemas.add(reflect.TypeOf(op.Request))}}}
	}
	return d
}

func (op Operation) parameters() []any {
	var list []any
	for _, part := range strings.Split(op.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			list = append(list, map[string]any{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true,
				"schema": map[string]any{"type": "string"}})
		}
	}
	for _, q := range op.Query {
		list = append(list, map[string]any{"name": q.Name, "in": "query", "description": q.Summary,
			"schema": map[string]any{"type": "integer", "minimum": 0}})
	}
	for _, q := range op.Words {
		list = append(list, map[string]any{"name": q.Name, "in": "query", "description": q.Summary,
			"schema": map[string]any{"type": "string"}})
	}
	return list
}

// schemaSet is components/schemas, by type name.
type schemaSet map[string]any

func refTo(name string) map[string]any {
	return map[string]any{"$ref": "#/components/schemas/" + name}
}

// add describes t and returns a reference to it, or t's schema itself where it has no name of ours.
func (s schemaSet) add(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return map[string]any{"type": "object"}
	case t == reflect.TypeFor[[]byte]():
		return map[string]any{"type": "string", "contentEncoding": "base64"}
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.add(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint32, reflect.Int32:
		return map[string]any{"type": "integer"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.add(t.Elem())}
	case reflect.Struct:
		if _, known := s[t.Name()]; !known {
			s[t.Name()] = nil // ends recursion
			s[t.Name()] = s.object(t)
		}
		return refTo(t.Name())
	}
	panic("api: no schema for " + t.String()) // a mistake in a route table, found by its test
}

func (s schemaSet) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	required := []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		schema := s.add(f.Type)
		if doc := f.Tag.Get("doc"); doc != "" {
			schema["description"] = doc
		}
		properties[name] = schema
		if !strings.Contains(options, "omitempty") {
			required = append(required, name)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required}
}
