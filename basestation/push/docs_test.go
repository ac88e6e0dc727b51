package push

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
)

// The receiver that docs/operator.md shows tells genuine messages from others.
func TestDocumentedReceiver(t *testing.T) {
	python := testnet.Program(t, "python3")
	page, err := os.ReadFile("../../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "<!-- tested: receiver -->\n```python\n")
	code, _, ended := strings.Cut(rest, "\n```")
	if !found || !ended {
		t.Fatal("docs/operator.md has no block marked as tested")
	}
	secret, other := newSecret(), newSecret()
	both, err := ParseSecrets(string(other) + string(secret))
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"id": "evt_1"}`)
	r, err := http.NewRequest(http.MethodPost, "https://hooks.example.net", nil)
	if err != nil {
		t.Fatal(err)
	}
	both.setHeaders(r, "evt_1", time.Unix(1_800_000_000, 0), body)
	headers := map[string]string{}
	for name := range r.Header {
		headers[strings.ToLower(name)] = r.Header.Get(name)
	}
	call, err := json.Marshal(map[string]any{"secret": string(secret), "headers": headers, "body": string(body)})
	if err != nil {
		t.Fatal(err)
	}
	const ask = `
import json, sys
c = json.load(sys.stdin)
good, forged = c["body"].encode(), c["body"].encode() + b" "
print(genuine(c["secret"], c["headers"], good), genuine(c["secret"], c["headers"], forged))
c["headers"]["webhook-timestamp"] = "1800000001"
print(genuine(c["secret"], c["headers"], good))
`
	cmd := exec.CommandContext(t.Context(), python, "-c", code+"\n"+ask)
	cmd.Stdin = strings.NewReader(string(call))
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "True False\nFalse\n" {
		t.Errorf("%v: got\n%s\nwant True False, False", err, out)
	}
}

// The question that docs/operator.md shows is the one that is asked.
func TestDocumentedQuestion(t *testing.T) {
	page, err := os.ReadFile("../../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## Authorization")
	_, rest, _ = strings.Cut(rest, "```json\n")
	shown, _, _ := strings.Cut(rest, "\n```")
	var q Question
	d := json.NewDecoder(strings.NewReader(shown))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		t.Fatal(err)
	}
	if q.Client == "" || q.Device == "" || q.Source == "" || q.Time.IsZero() || q.Attach == "" {
		t.Errorf("a field is missing: %+v", q)
	}
}
