package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyholed/keyhole/internal/testcmd"
	"github.com/keyholed/keyhole/internal/testnet"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyhole-basestation": main})
}

// TestScripts runs testdata/*.txtar: the command line as one types it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			short, err := testcmd.Short(e)
			e.Defer(func() { // of a script that failed midway
				if data, err := os.ReadFile(filepath.Join(e.WorkDir, "pid")); err == nil {
					if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
						_ = syscall.Kill(pid, syscall.SIGKILL)
					}
				}
			})
			e.Setenv(envData, filepath.Join(short, "d"))
			e.Setenv("SOCK", filepath.Join(short, "d", "admin.sock"))
			return err
		},
		Cmds: testcmd.Commands(map[string]testcmd.Command{"waitgone": waitGone, "api": setAPI}),
	})
}

// waitgone: the process whose number is in the file pid has ended, and let go of
// the data directory.
func waitGone(ts *testscript.TestScript, _ bool, _ []string) {
	pid := strings.TrimSpace(ts.ReadFile("pid"))
	testnet.Until(ts, "process "+pid+" ends", func() bool {
		status, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(status), ") Z ")
	})
}

// api NAME LOG puts the API's address, as it is logged, into a variable.
func setAPI(ts *testscript.TestScript, _ bool, args []string) {
	testnet.Until(ts, "the API is served", func() bool {
		data, _ := os.ReadFile(ts.MkAbs(args[1]))
		_, rest, found := strings.Cut(string(data), " api=")
		if address, _, ended := strings.Cut(rest, "\n"); found && ended {
			ts.Setenv(args[0], "https://"+address)
			return true
		}
		return false
	})
}

func TestUsageFitsAScreen(t *testing.T) {
	if n := len(strings.Split(usage, "\n")); n > 26 {
		t.Errorf("usage has %d lines, want at most 26", n)
	}
	for _, c := range commands {
		if !strings.Contains(usage, "keyhole-basestation "+c.name) {
			t.Errorf("usage does not name %q", c.name)
		}
	}
}

func TestGuess(t *testing.T) {
	for word, want := range map[string]string{"stat": "status", "sevre": "serve", "devices-all": "devices", "x": "", "zzz": ""} {
		if got := guess(word); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("guess(%q) = %q, want %q", word, got, want)
		}
	}
}

// The check character finds every single mistake, and every swap of neighbours
// but a few.
func TestCheckCharacterFindsMistakes(t *testing.T) {
	const serial = "KH-0012345"
	right := checkCharacter(serial)
	if got := checkCharacter("A12425GABC1234002"); got != "M" { // the example of the Global Release Identifier, ISO/IEC 7064 MOD 37,36
		t.Errorf("the standard's example has %s, want M", got)
	}
	for i := range serial {
		if serial[i] == '-' {
			continue
		}
		for _, r := range serialAlphabet {
			if wrong := serial[:i] + string(r) + serial[i+1:]; wrong != serial && checkCharacter(wrong) == right {
				t.Errorf("%s and %s have the same check character", serial, wrong)
			}
		}
	}
}

func FuzzMaster(f *testing.F) {
	f.Add(strings.Repeat("ab", 32) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseMaster("f", text); err == nil && len(strings.TrimSpace(text)) != 64 {
			t.Errorf("%q was taken", text)
		}
	})
}
