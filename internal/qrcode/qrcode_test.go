package qrcode

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
)

// render paints what a terminal with a dark ground shows.
func render(t *testing.T, text string) image.Image {
	t.Helper()
	const module = 4
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	width := 0
	for _, l := range lines {
		width = max(width, len([]rune(l)))
	}
	p := image.NewGray(image.Rect(0, 0, width*module, 2*len(lines)*module))
	for y, l := range lines {
		for x, r := range []rune(l) {
			for half := range 2 {
				lit := r == '█' || r == '▀' && half == 0 || r == '▄' && half == 1
				if !strings.ContainsRune("█▀▄ ", r) {
					t.Fatalf("%q is no half block", r)
				}
				for i := range module * module {
					if lit {
						p.SetGray(x*module+i%module, (2*y+half)*module+i/module, color.Gray{Y: 255})
					}
				}
			}
		}
	}
	return p
}

// scan reads a picture with a foreign reader.
func scan(t *testing.T, p image.Image) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, p); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "code.png")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(testnet.Program(t, "zbarimg"), "--raw", "--quiet", file).Output()
	if err != nil {
		t.Fatalf("zbarimg: %v", err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func TestTerminalIsReadByAForeignReader(t *testing.T) {
	for _, text := range []string{
		"KEYHOLE:CAAAQEAYEAUDAOCAJBIFQYDIOB4AC6GCTRIDU",
		"KEYHOLE:IAAAQEAYEAUDAOCAJBIFQYDIOB4UCQ2FI5EUWTKPKFJVKV2ZLNOV4AQAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYQMJQXGZJOMV4GC3LQNRSS43TFOQORGGUM",
		"https://example.net/lower-case?" + strings.Repeat("x", 200),
	} {
		c, err := Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := scan(t, render(t, c.Blocks())); got != text {
			t.Errorf("%d modules: read %q, want %q", c.Size, got, text)
		}
		if got := scan(t, c.Picture(3)); got != text {
			t.Errorf("a picture: read %q, want %q", got, text)
		}
		for line := range strings.Lines(c.Coloured()) {
			if !strings.HasPrefix(line, "\x1b[97;40m") || !strings.HasSuffix(line, "\x1b[0m\n") {
				t.Fatalf("a line without its colours: %q", line)
			}
		}
	}
}

// The size of codes is the reason for what is in links and how.
func TestCodesAreSmall(t *testing.T) {
	for text, most := range map[string]int{
		"KEYHOLE:CAAAQEAYEAUDAOCAJBIFQYDIOB4AC6GCTRIDU":      25, // on a display of 64 lines each module has two
		"KEYHOLE:LAAAQEAYEAUDAOCAJBIFQYDIOB4ADZR2K3UP5FCPVI": 29, // on a sticker
		"KEYHOLE:I" + strings.Repeat("A", 26+114):            41, // an invite with one basestation
	} {
		c, err := Encode(text)
		if err != nil || c.Size > most {
			t.Errorf("%d characters: %d modules, want %d at most (%v)", len(text), c.Size, most, err)
		}
	}
	if _, err := Encode(strings.Repeat("x", MaxText+1)); err == nil {
		t.Error("any length is taken")
	}
}
