package testcam

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"testing"
	"time"
)

func TestMarkSurvivesJPEG(t *testing.T) {
	for _, size := range []image.Point{{320, 184}, {640, 360}, {648, 488}, {1280, 720}} {
		for _, quality := range []int{1, 10, 50, 99} {
			want := Mark{Name{0xde, 0xad, 0xbe, 0xef, 0, 255, 1, 2}, 4_000_000_001}
			p := newPainter(want.Name, size.X, size.Y)
			var file bytes.Buffer
			if err := jpeg.Encode(&file, p.paint(want.Number, time.Now()), &jpeg.Options{Quality: quality}); err != nil {
				t.Fatal(err)
			}
			parts, err := dissect(file.Bytes())
			if err != nil || parts.width != size.X || parts.height != size.Y || len(parts.tables) != 128 {
				t.Errorf("dissect %v at quality %d: got %dx%d, %d bytes of tables, %v", size, quality, parts.width, parts.height, len(parts.tables), err)
			}
			img, err := jpeg.Decode(&file)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ReadMark(img); got != want || err != nil {
				t.Errorf("mark in %v at quality %d: got %v, %v, want %v", size, quality, got, err, want)
			}
		}
	}
}

func TestNoMark(t *testing.T) {
	p := newPainter(Name{1}, 640, 360)
	damaged := p.paint(7, time.Now())
	flip := markRect(damaged.Rect, 20)
	fill(damaged, flip, amber)
	for i := 0; i < 4*8; i += 4 { // whatever it was, make the cell the other way
		fill(damaged, flip, shadow)
	}
	if m, err := ReadMark(p.back); !errors.Is(err, ErrNoMark) {
		t.Errorf("picture without a mark: got %v, %v", m, err)
	}
	if m, err := ReadMark(image.NewRGBA(image.Rect(0, 0, 8, 8))); !errors.Is(err, ErrNoMark) {
		t.Errorf("tiny picture: got %v, %v", m, err)
	}
	for _, cell := range []int{0, 9, 80, 119} {
		img := p.paint(7, time.Now())
		c := white
		if brightness(img, markRect(img.Rect, cell).Inset(2)) > 0x7fff {
			c = shadow
		}
		fill(img, markRect(img.Rect, cell), c)
		if m, err := ReadMark(img); !errors.Is(err, ErrNoMark) {
			t.Errorf("cell %d turned over: got %v, %v", cell, m, err)
		}
	}
}

func TestDissectRefuses(t *testing.T) {
	var file bytes.Buffer
	jpeg.Encode(&file, image.NewRGBA(image.Rect(0, 0, 16, 16)), nil)
	whole := file.Bytes()
	for n := range whole {
		if _, err := dissect(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes: no error", n, len(whole))
		}
	}
	file = bytes.Buffer{}
	jpeg.Encode(&file, image.NewGray(image.Rect(0, 0, 16, 16)), nil)
	if _, err := dissect(file.Bytes()); err == nil {
		t.Error("grey picture: no error")
	}
}
