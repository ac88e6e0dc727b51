package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	deep := strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1)
	for _, c := range []struct{ body, want string }{
		{`{"commitment":"00","name":"n","user":"u"}`, ""},
		{`{}`, ""},
		{``, "the body is empty"},
		{`{`, "ends early"},
		{`{"commitment":}`, "not JSON: an error at byte"},
		{`{"comitment":"00"}`, `unknown field "comitment"`},
		{`{"commitment":7}`, `the field "commitment" cannot be a number`},
		{`{"name":"a","name":"b"}`, `the field "name" is there twice`},
		{`{"name":"a","NAME":"b"}`, `is there twice`},
		{`[1]`, "a JSON array in place of an object"},
		{`{} {}`, "more than one JSON document"},
		{deep, "nested more than"},
	} {
		var v ButtonBegin
		err := Decode([]byte(c.body), &v)
		if c.want == "" {
			if err != nil {
				t.Errorf("Decode(%s) = %v", c.body, err)
			}
			continue
		}
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusBadRequest || !strings.Contains(p.Detail, c.want) {
			t.Errorf("Decode(%.60s) = %v, want a 400 with %q", c.body, err, c.want)
		}
	}
}

func TestDecodeRequestLimits(t *testing.T) {
	for _, c := range []struct {
		kind, body string
		want       Code
	}{
		{"application/json", `{"name":"` + strings.Repeat("x", MaxBodyBytes) + `"}`, CodeTooLarge},
		{"text/plain", `{}`, CodeMedia},
		{"", `{}`, CodeMedia},
	} {
		r := httptest.NewRequest("POST", "/v1/pair/button", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		var v ButtonBegin
		if err := DecodeRequest(httptest.NewRecorder(), r, &v); !IsCode(err, c.want) {
			t.Errorf("type %q, %d bytes: %v, want %s", c.kind, len(c.body), err, c.want)
		}
	}
}

func TestProblemRoundTrip(t *testing.T) {
	for code := range statusOf {
		w := httptest.NewRecorder()
		sent := Problemf(code, "something of %s", code)
		WriteProblem(w, sent)
		got := ReadProblem(w.Code, w.Header().Get("Content-Type"), w.Body)
		if *got != *sent || got.Code() != code || got.Title == "" {
			t.Errorf("sent %+v, got %+v", sent, got)
		}
	}
	if p := ReadProblem(502, "text/html", strings.NewReader("<html>")); p.Status != 502 || p.Code() != "" || p.Error() != "Bad Gateway" {
		t.Errorf("foreign answer: %+v", p)
	}
	if p := ReadProblem(403, ProblemMediaType, strings.NewReader("{")); p.Status != 403 {
		t.Errorf("broken document: %+v", p)
	}
}

func TestOpenAPI(t *testing.T) {
	raw, err := OpenAPI("t", "1", []Operation{
		{Method: "PATCH", Path: "/v1/users/{name}", Summary: "s", Action: "users", Request: UserPatch{}, Answer: User{}},
		{Method: "GET", Path: "/v1/audit", Summary: "s", Query: []Parameter{{"after", "n"}}, Answer: Audit{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths      map[string]map[string]map[string]any
		Components struct{ Schemas map[string]map[string]any }
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Paths["/v1/users/{name}"]["patch"]["x-keyhole-action"] != "users" {
		t.Errorf("operation missing in %s", raw)
	}
	for _, name := range []string{"User", "UserKey", "UserPatch", "Audit", "Problem"} {
		if doc.Components.Schemas[name]["type"] != "object" {
			t.Errorf("schema %s missing in %s", name, raw)
		}
	}
	if strings.Contains(string(raw), `"UserPatch": null`) {
		t.Error("schema left empty")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"commitment":"00","name":"n","user":"u"}`))
	f.Add([]byte(`{"a":[{"b":1}],"A":2}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v ButtonBegin
		err := Decode(data, &v)
		var p *Problem
		if err != nil && !errors.As(err, &p) {
			t.Fatalf("%q: error %T is no problem document", data, err)
		}
		if err == nil && !json.Valid(data) {
			t.Fatalf("%q accepted", data)
		}
	})
}
