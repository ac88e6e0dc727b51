package settings

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type plan struct {
	Name string        `toml:"name"`
	On   bool          `toml:"on"`
	Rate int           `toml:"rate"`
	Wait time.Duration `toml:"wait"`
	List []string      `toml:"list"`
	Room room          `toml:"room"`
	own  int
}

type room struct {
	Door string `toml:"door"`
}

func decode(text string) (*plan, *Decoder, error) {
	doc, err := Parse([]byte(text), "f.toml")
	if err != nil {
		return nil, nil, err
	}
	p, d := &plan{own: 7}, &Decoder{Document: doc, Later: map[string]string{"cellar": "comes later"}}
	d.Decode(p)
	return p, d, nil
}

func TestEveryKindArrives(t *testing.T) {
	p, d, err := decode("name = 'a'\non = true\nrate = -3\nwait = '1m'\nlist = ['x', 'y']\n[room]\ndoor = 'd'\n[cellar]\nx = 1")
	if err != nil || len(d.Errs) > 0 {
		t.Fatal(err, d.Errs)
	}
	if p.Name != "a" || !p.On || p.Rate != -3 || p.Wait != time.Minute || strings.Join(p.List, "") != "xy" || p.Room.Door != "d" || p.own != 7 {
		t.Errorf("got %+v", p)
	}
	if got := d.Warnings.Error(); got != "f.toml:8: cellar: comes later" {
		t.Errorf("warnings: %s", got)
	}
}

func TestMistakesAreToldTogetherWithTheirLines(t *testing.T) {
	_, d, err := decode("on = 'yes'\nnmae = 'a'\nrate = 1.5\n[room]\ndoor = 3\nx = 0\nwait = 1")
	if err != nil {
		t.Fatal(err)
	}
	want := `f.toml:1: on: want true or false, without quotes, got the string "yes"
f.toml:2: nmae: unknown key (did you mean "name"?)
f.toml:3: rate: want a whole number, got the number 1.5
f.toml:5: room.door: want a string in quotes, got the number 3
f.toml:6: room.x: unknown key (known here: door)
f.toml:7: room.wait: unknown key (known here: door)`
	if got := d.Errs.Sorted().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	late := Errors{d.Fault("empty", "", "room", "door"), d.Fault("odd", "", "list")}
	if all := d.Errs.Besides(late); len(all) != 7 || all[6].Text != "odd" {
		t.Errorf("a line that is blamed already is blamed again: %v", all)
	}
}

func TestLinesCanBeForgotten(t *testing.T) {
	doc, err := Parse([]byte("\n[room]\ndoor = 'd'"), "f.toml")
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"room", "door"}
	if !doc.Lines.Names(at...) || doc.Lines.Of(at) != 3 {
		t.Errorf("line %d", doc.Lines.Of(at))
	}
	doc.Lines.Forget(at...)
	if doc.Lines.Names(at...) || doc.Lines.Of(at) != 2 {
		t.Errorf("forgotten: line %d, want that of its table", doc.Lines.Of(at))
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, "no"), "make one"); !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "(make one)") {
		t.Errorf("missing: %v", err)
	}
	if _, err := Read(dir, ""); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, []byte(strings.Repeat("#", MaxFileBytes+9)), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := Read(large, "")
	if err != nil || len(data) != MaxFileBytes+1 {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	if _, err := Parse(data, large); err == nil || !strings.Contains(err.Error(), "larger than 256 KiB") {
		t.Errorf("large: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("name = 'a'\non = true\n[room]\ndoor = 'd'")
	f.Add("a.b.\"c\\u0041\" = [[{x = '''\n'''}, 3], [\n# c\n]]\r\n[[s]]\n[s.t]\nu = 1979-05-27 07:32:00\n")
	f.Add("room = [{door = 1}]\nwait = 'x'\nlist = [[]]")
	f.Fuzz(func(t *testing.T, text string) {
		_, d, err := decode(text)
		var all Errors
		if err != nil && !errors.As(err, &all) {
			t.Fatalf("%T is not Errors", err)
		}
		if d != nil {
			all = d.Errs
		}
		lines := strings.Count(text, "\n") + 2 // an end of file is told as the line behind it
		for _, e := range all {
			if e.Line < 0 || e.Line > lines {
				t.Errorf("%v: the file has %d lines", e, lines)
			}
		}
	})
}
