package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyholed/keyhole/internal/testcmd"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyholed": main})
}

// TestScripts runs testdata/*.txtar: the command line as one types it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			short, err := testcmd.Short(e)
			e.Setenv("SOCK", filepath.Join(short, "s"))
			return err
		},
		Cmds: testcmd.Commands(map[string]testcmd.Command{"helpexample": helpExample}),
	})
}

// helpexample runs the last line of `keyholed help`, as one who pastes it.
func helpExample(ts *testscript.TestScript, _ bool, _ []string) {
	lines := strings.Split(strings.TrimSpace(usage), "\n")
	if err := ts.Exec("sh", "-c", strings.TrimSpace(lines[len(lines)-1])); err != nil {
		ts.Fatalf("%s: %v", lines[len(lines)-1], err)
	}
}

func TestUsageFitsAScreen(t *testing.T) {
	lines := strings.Split(usage, "\n")
	if len(lines) > 24 {
		t.Errorf("usage has %d lines, want at most 24", len(lines))
	}
	for _, c := range commands {
		if !strings.Contains(usage, "keyholed "+c.name) {
			t.Errorf("usage does not name %q", c.name)
		}
	}
}

func TestGuess(t *testing.T) {
	for word, want := range map[string]string{"stat": "status", "press-pair": "press", "revok": "revoke", "x": "", "zzz": ""} {
		if got := guess(word); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("guess(%q) = %q, want %q", word, got, want)
		}
	}
}
