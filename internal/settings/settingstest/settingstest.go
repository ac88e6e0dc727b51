// Package settingstest is what the tests of every configuration have in common:
// that its example names each setting, and that each mistake is told with its
// line.
package settingstest

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/settings"
)

// commented is a setting that an example shows with its default, or a section that
// it shows and does not want.
var commented = regexp.MustCompile(`(?m)^#([a-z_]+ = |\[\[)`)

// Full is an example with its commented settings in force. It fails the test
// where a key of the configuration of this type is not named.
func Full(t *testing.T, example []byte, configuration reflect.Type) string {
	t.Helper()
	full := commented.ReplaceAllString(string(example), "$1")
	doc, err := settings.Parse([]byte(full), "example")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range doc.Lacks(configuration) {
		t.Errorf("the example does not name %s", key)
	}
	return full
}

// A Mistake is a file, and the line and the words that its error has.
type Mistake = struct {
	Text string
	Line int
	Want string
}

// Mistakes parses each file, which is named file, and looks for its error.
func Mistakes(t *testing.T, file string, parse func(text string) error, cases []Mistake) {
	t.Helper()
	for _, c := range cases {
		err := parse(c.Text)
		var all settings.Errors
		if !errors.As(err, &all) {
			t.Errorf("%q: got %v, want Errors", c.Text, err)
			continue
		}
		place := fmt.Sprintf("%s:%d: ", file, c.Line)
		if !slices.ContainsFunc(all, func(e *settings.Error) bool {
			return e.Line == c.Line && strings.HasPrefix(e.Error(), place) && strings.Contains(e.Error(), c.Want)
		}) {
			t.Errorf("%.60q:\n got  %v\n want line %d and %q", c.Text, err, c.Line, c.Want)
		}
	}
}
