package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages returns the Markdown files of the repository, by their path from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			found[filepath.ToSlash(rel)] = string(text)
		}
	}
	if len(found) < 4 {
		t.Fatalf("only %d pages found", len(found))
	}
	return found
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", "..", filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}

var (
	threatRoom = regexp.MustCompile("`([a-z/]+)` (Test[A-Za-z0-9]+(?:, Test[A-Za-z0-9]+)*)")
	aTest      = regexp.MustCompile(`Test[A-Za-z0-9]+`)
)

// A threat whose test was renamed or removed is a promise that nobody keeps.
func TestThreatsHaveTheirTests(t *testing.T) {
	named := 0
	for _, m := range threatRoom.FindAllStringSubmatch(pages(t)["docs/threats.md"], -1) {
		for _, test := range aTest.FindAllString(m[2], -1) {
			named++
			room := filepath.Join("..", "..", filepath.FromSlash(m[1]))
			if !hasTest(t, room, test) {
				t.Errorf("docs/threats.md names %s of %s, which is not there", test, m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("docs/threats.md names %d tests only: is it read right?", named)
	}
}

func hasTest(t *testing.T, room, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(room, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func "+test+"(") {
			return true
		}
	}
	return false
}

// Every room is on the map.
func TestRoomsAreInTheArchitecture(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}", "../../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	page := pages(t)["ARCHITECTURE.md"]
	for _, path := range strings.Fields(string(out)) {
		room := strings.TrimPrefix(path, module)
		name := room
		if below, ok := strings.CutPrefix(room, "internal/"); ok {
			name = below
		} else if strings.HasPrefix(room, "cmd/") {
			name = "cmd/…"
		}
		if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "`"+filepath.Base(name)+"/`") {
			t.Errorf("ARCHITECTURE.md does not mention %s", room)
		}
	}
}
