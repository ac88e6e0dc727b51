package sim

import (
	"encoding/json"
	"testing"
)

// Whatever is taken for an edge says the same again when it is written down.
func FuzzParseEdge(f *testing.F) {
	for _, seed := range []string{
		`{"stream":"a","button":"pair","down":true}`, `{"down":false,"button":"reset","stream":"b"}`,
		`{}`, `[]`, `null`, `{"stream":"a","button":"pair","down":1}`, `{"stream":"a","button":"pair"} {}`,
		`{"stream":"a","button":"pair","x":1}`, "", "\x00", `{"stream":`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := parseEdge(body)
		if err != nil {
			if e != (edgeRequest{}) {
				t.Fatalf("refused %q but returned %+v", body, e)
			}
			return
		}
		if e.Stream == "" || e.Button == "" {
			t.Fatalf("%q names no stream or button: %+v", body, e)
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseEdge(text); err != nil || again != e {
			t.Fatalf("%q: %+v, written %s, read %+v %v", body, e, text, again, err)
		}
	})
}
