package daemon

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every route is in docs/protocol.md, whatever names its parameters have there.
func TestProtocolPageHasEveryRoute(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	parameter := regexp.MustCompile(`\{[a-z]+\}`)
	text := parameter.ReplaceAllString(string(page), "{}")
	for _, r := range table() {
		path := parameter.ReplaceAllString(r.Path, "{}")
		found := false
		for line := range strings.Lines(text) {
			found = found || strings.Contains(line, "`"+r.Method) && regexp.MustCompile("[ `]"+regexp.QuoteMeta(path)+"[`?]").MatchString(line)
		}
		if !found {
			t.Errorf("docs/protocol.md does not name %s %s", r.Method, r.Path)
		}
	}
}
