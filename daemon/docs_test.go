package daemon

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every operation that a peer may ask for stands in the table of docs/protocol.md:
// its method and its path in one row.
func TestRoutesAreOnTheProtocolPage(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table() {
		path := regexp.MustCompile("[ `]" + regexp.QuoteMeta(r.Path) + "[?`]")
		found := false
		for line := range strings.Lines(string(page)) {
			row := strings.HasPrefix(line, "| `") && path.MatchString(line)
			found = found || row && regexp.MustCompile("`"+r.Method+"[ `]").MatchString(line)
		}
		if !found {
			t.Errorf("%s %s is on no row of the page", r.Method, r.Path)
		}
	}
}
