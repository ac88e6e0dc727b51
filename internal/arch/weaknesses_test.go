package arch

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The field's known weaknesses that are a property of the whole tree, and not of a
// room: see docs/threats.md.

// tree calls do for each file of the repository with what is in it.
func tree(t *testing.T, do func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == ".git" || name == "build") {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		do(path, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// buildTags are those that a file may depend on: where it runs, and whether a race
// detector looks on. None takes a defence away.
var buildTags = []string{"linux", "unix", "darwin", "windows", "freebsd", "netbsd", "openbsd", "race"}

var tagName = regexp.MustCompile(`[A-Za-z0-9_.]+`)

// A build without encryption was shipped by others (CVE-2021-32934). Here no build
// tag can leave anything out: there are none but those of systems.
func TestNoBuildTagTakesADefenceAway(t *testing.T) {
	tree(t, func(path string, text []byte) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		for line := range strings.Lines(string(text)) {
			rule, found := strings.CutPrefix(strings.TrimSpace(line), "//go:build ")
			if !found {
				continue
			}
			for _, tag := range tagName.FindAllString(rule, -1) {
				if !slices.Contains(buildTags, tag) {
					t.Errorf("%s: build tag %q is not one of %v", path, tag, buildTags)
				}
			}
		}
	})
}

// privateKey is a PEM private key with a body; the words alone are in every program
// that reads one.
var privateKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}`)

// One key for all devices was found in others' firmware (ICSA-21-019-02). Neither
// the repository nor a program made of it has any.
func TestNoSecretInTheImage(t *testing.T) {
	tree(t, func(path string, text []byte) {
		if privateKey.Match(text) {
			t.Errorf("%s holds a private key", path)
		}
	})
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/keyholed", "../../cmd/keyhole", "../../cmd/keyhole-basestation").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"keyholed", "keyhole", "keyhole-basestation"} {
		image, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if privateKey.Match(image) {
			t.Errorf("%s holds a private key", name)
		}
	}
}
