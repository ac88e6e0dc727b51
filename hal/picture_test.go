package hal

import (
	"bytes"
	"flag"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden pictures anew; then look at them")

func drawn() map[string]*Picture {
	countdown := &Picture{}
	countdown.Centre(4, 1, "Keep holding")
	countdown.Centre(19, 2, "7 s")
	countdown.Bar(image.Rect(4, 52, 124, 62), 3, 10)

	banner := &Picture{}
	banner.Centre(2, 1, "Support connected")
	banner.Invert(image.Rect(0, 0, Width, 16))
	banner.Text(4, 24, 1, "ÄÖ café 日本")
	banner.Text(100, 40, 3, "cut off")

	return map[string]*Picture{
		"code":      Page(Line{Text: "Pairing code"}, Line{Text: "1234 5678", Scale: 2}, Line{Text: "2:59 left"}),
		"digits":    Page(Line{Text: "A laptop with a very long name"}, Line{Text: "123456", Scale: 3}),
		"countdown": countdown,
		"banner":    banner,
		"overfull":  Page(Line{Text: "one", Scale: 2}, Line{Text: "two", Scale: 2}, Line{Text: "three"}, Line{Text: "four"}),
	}
}

// Each picture is the same to the pixel and to the byte as the one somebody
// looked at and found good.
func TestGoldenPictures(t *testing.T) {
	for name, p := range drawn() {
		var got bytes.Buffer
		if err := p.PNG(&got, 4); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".png")
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := png.Decode(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if size := want.Bounds().Size(); size != image.Pt(4*Width, 4*Height) {
			t.Fatalf("%s is %v", path, size)
		}
		for y := range 4 * Height {
			for x := range 4 * Width {
				r, _, _, _ := want.At(x, y).RGBA()
				if (r > 0x7fff) != p.Lit(x/4, y/4) {
					t.Fatalf("%s differs at %d,%d:\n%s", path, x/4, y/4, p.Blocks())
				}
			}
		}
	}
}

func TestWords(t *testing.T) {
	for name, want := range map[string][]string{
		"code":     {"Pairing code", "1234 5678", "2:59 left"},
		"digits":   {"A laptop with a very long name", "123456"},
		"overfull": {"one", "two", "three", "four"},
	} {
		if got := drawn()[name].Words; !slices.Equal(got, want) {
			t.Errorf("%s says %q, want %q", name, got, want)
		}
	}
}

func TestPixels(t *testing.T) {
	p := &Picture{}
	for _, at := range []image.Point{{-1, 0}, {0, -1}, {Width, 0}, {0, Height}, {1 << 30, 1 << 30}} {
		p.Set(at.X, at.Y, true)
		if p.Lit(at.X, at.Y) {
			t.Errorf("%v outside is lit", at)
		}
	}
	if !p.Equal(&Picture{}) {
		t.Error("a pixel outside changed the picture")
	}
	p.Set(9, 1, true)
	if p.Bits[Width/8+1] != 0x40 {
		t.Errorf("pixel 9,1 is not bit 6 of byte %d", Width/8+1)
	}
	q := p.Clone()
	q.Set(9, 1, false)
	if !p.Lit(9, 1) || q.Lit(9, 1) || p.Equal(q) {
		t.Error("the clone is not one")
	}
	p.Fill(image.Rect(-5, -5, 500, 500), true)
	p.Invert(p.Bounds())
	if !p.Equal(&Picture{}) {
		t.Error("lit all and inverted is not dark")
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		s     string
		scale int
		want  string
	}{
		{"123456", 3, "123456"}, {"1234567", 3, "1234.."}, {"123456789", 2, "123456789"},
		{strings.Repeat("é", 19), 1, strings.Repeat("é", 16) + ".."}, {"", 1, ""}, {"x", 0, "x"}, {"1234567", 99, "1234.."},
	} {
		if got := Fit(c.s, c.scale); got != c.want {
			t.Errorf("Fit(%q, %d) = %q, want %q", c.s, c.scale, got, c.want)
		}
	}
}

func TestBarShares(t *testing.T) {
	for _, c := range []struct{ part, whole, lit int }{{0, 10, 0}, {5, 10, 50}, {10, 10, 100}, {11, 10, 100}, {-1, 10, 0}, {1, 0, 0}} {
		p := &Picture{}
		p.Bar(image.Rect(0, 0, 104, 8), c.part, c.whole)
		lit := 0
		for x := 2; x < 102; x++ {
			if p.Lit(x, 4) {
				lit++
			}
		}
		if lit != c.lit {
			t.Errorf("%d of %d: %d pixels, want %d", c.part, c.whole, lit, c.lit)
		}
	}
}

func TestPNGScaleIsBounded(t *testing.T) {
	for scale, want := range map[int]int{-3: Width, 1: Width, 3: 3 * Width, 1 << 30: MaxPNGScale * Width} {
		var out bytes.Buffer
		if err := (&Picture{}).PNG(&out, scale); err != nil {
			t.Fatal(err)
		}
		if size, err := png.DecodeConfig(&out); err != nil || size.Width != want {
			t.Errorf("scale %d: width %d %v, want %d", scale, size.Width, err, want)
		}
	}
}

func TestBlocks(t *testing.T) {
	p := &Picture{}
	p.Set(0, 0, true)
	p.Set(1, 1, true)
	p.Set(2, 0, true)
	p.Set(2, 1, true)
	if got := p.Blocks(); !strings.HasPrefix(got, "▀▄█\n\n") || strings.Count(got, "\n") != Height/2 {
		t.Errorf("drawn as %q", got)
	}
}
