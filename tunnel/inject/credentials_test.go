package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, user, password, wrong string }{
		{"admin:secret", "admin", "secret", ""},
		{"admin:se:cret \n", "admin", "se:cret ", ""},
		{"# the camera\r\n\r\nadmin:secret\r\n", "admin", "secret", ""},
		{"admin:", "admin", "", ""},
		{"user = admin\npassword = se cret\n", "admin", "se cret", ""},
		{"password = 'p#\"q'\nuser = \"ad\\tmin\"\n", "", "", "control character"},
		{"password = \"a\\\"b\"\nuser='x y'\n", "x y", `a"b`, ""},
		{"user=a:b\npassword=c", "", "", "colon"},
		{"", "", "", "want user:password"},
		{"admin", "", "", "line 1: want user:password"},
		{"a:b\nc:d", "", "", "line 2: more than one user"},
		{"user = a", "", "", "want user:password"},
		{"user = a\nuser = b\npassword = c", "", "", "line 2: want user and password once each"},
		{"user = a\nhunter2:x", "", "", "line 2: want user and password once each"},
		{":x", "", "", "user name has 0 bytes"},
		{strings.Repeat("u", 256) + ":x", "", "", "user name has 256"},
		{"u:" + strings.Repeat("hunter2", 100), "", "", "password has 700"},
		{"u:a\x00b", "", "", "control character"},
	} {
		got, err := Parse([]byte(c.text))
		switch {
		case c.wrong == "" && (err != nil || got.User != c.user || got.Password.reveal() != c.password):
			t.Errorf("%q: %q %q %v", c.text, got.User, got.Password.reveal(), err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%q: %v, want %q", c.text, err, c.wrong)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("admin:secret"))
	f.Add([]byte("user = \"a\"\npassword = 'b'\n"))
	f.Add([]byte("# x\nuser="))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Parse(data); err == nil && c.check() != nil {
			t.Fatal(c.check())
		}
	})
}

// No way of printing shows it.
func TestSecretDoesNotPrint(t *testing.T) {
	c := Credentials{"admin", NewSecret("hunter2")}
	v := NewVault(c, nil)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c, "p", c.Password, "v", v)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "c", c, "p", c.Password)
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	log.Write(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb+verb+verb+verb, c, c.Password, &c, v)
		fmt.Fprintf(&log, verb, struct{ inner Credentials }{c})
		fmt.Fprintf(&log, verb, []any{c, &c.Password})
	}
	for _, word := range []string{"hunter2", fmt.Sprintf("%x", "hunter2")} {
		if strings.Contains(log.String(), word) {
			t.Errorf("%q is in %s", word, &log)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	me := os.Geteuid()
	if c, err := Load(write("good", "a:b", 0o400), me); err != nil || c.User != "a" {
		t.Errorf("a good file: %v", err)
	}
	foreign := write("foreign", "a:b", 0o600)
	testnet.Root(t)
	if err := os.Chown(foreign, 4711, -1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		write("group", "a:b", 0o640):                            "may be read by others (mode 0640)",
		write("world", "a:b", 0o604):                            "may be read by others",
		write("long", "a:"+strings.Repeat("b", MaxFile), 0o600): "larger than",
		write("odd", "hunter2", 0o600):                          "want user:password",
		filepath.Join(dir, "missing"):                           "no such file",
		dir:                                                     "not a regular file",
		foreign:                                                 "belongs to user 4711",
	} {
		_, err := Load(path, me)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
