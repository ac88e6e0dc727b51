package testcam

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
)

// A Mark is what a machine reads from a picture: whose it is and which.
//
// It is drawn along the bottom as black and white cells of 8x8 pixels, left to
// right and then upwards in rows as wide as the picture. A cell is one JPEG
// block of luma, so that even the coarsest quantisation keeps it apart:
//
//	bits   8        64              32              16
//	     +-------+---------------+---------------+--------+
//	     | 10100 | camera's name | picture's     | CRC-32 |
//	     | 110   |               | number        | low 16 |
//	     +-------+---------------+---------------+--------+
//
// most significant bit first, white is one, the check covers name and number.
type Mark struct {
	Name   Name
	Number uint32 // counts pictures from 1; never 0 in a picture of ours
}

// Name is the random name of one camera, the proof that a picture came from it
// and from no other. It prints as 16 hexadecimal digits.
type Name [8]byte

// String returns the 16 digits.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// ErrNoMark means that a picture carries no readable mark.
var ErrNoMark = errors.New("no mark of a test camera in this picture")

const (
	markCell = 8          // pixels: one JPEG block
	markSync = 0b10100110 // unlike any flat colour
	markBits = 8 + 64 + 32 + 16
)

// bits returns the mark as it is drawn, one byte a cell.
func (m Mark) bits() [markBits]byte {
	var raw [markBits / 8]byte
	raw[0] = markSync
	copy(raw[1:9], m.Name[:])
	binary.BigEndian.PutUint32(raw[9:13], m.Number)
	binary.BigEndian.PutUint16(raw[13:15], uint16(crc32.ChecksumIEEE(raw[1:13])))
	var cells [markBits]byte
	for i := range cells {
		cells[i] = raw[i/8] >> (7 - i%8) & 1
	}
	return cells
}

// markRect returns where cell i stands in a picture with these bounds.
func markRect(bounds image.Rectangle, i int) image.Rectangle {
	perRow := bounds.Dx() / markCell
	rows := bounds.Dy() / markCell
	x := bounds.Min.X + i%perRow*markCell
	y := bounds.Min.Y + (rows-1-i/perRow)*markCell
	return image.Rect(x, y, x+markCell, y+markCell)
}

// markRows returns how many rows of cells a picture of this width needs.
func markRows(width int) int {
	perRow := width / markCell
	return (markBits + perRow - 1) / perRow
}

// draw puts the mark into the picture.
func (m Mark) draw(img *image.RGBA) {
	for i, bit := range m.bits() {
		fill(img, markRect(img.Rect, i), color.RGBA{bit * 255, bit * 255, bit * 255, 255})
	}
}

// ReadMark returns the mark of a picture that was made by a camera of this
// package, after JPEG or any video codec, in its original size. The error
// wraps ErrNoMark.
func ReadMark(img image.Image) (Mark, error) {
	b := img.Bounds()
	if b.Dx() < minWidth || b.Dy() < minHeight {
		return Mark{}, fmt.Errorf("picture of %dx%d: %w", b.Dx(), b.Dy(), ErrNoMark)
	}
	var raw [markBits / 8]byte
	for i := range markBits {
		if brightness(img, markRect(b, i).Inset(2)) > 0x7fff {
			raw[i/8] |= 1 << (7 - i%8)
		}
	}
	if raw[0] != markSync || binary.BigEndian.Uint16(raw[13:15]) != uint16(crc32.ChecksumIEEE(raw[1:13])) {
		return Mark{}, fmt.Errorf("cells read %x: %w", raw, ErrNoMark)
	}
	return Mark{Name: Name(raw[1:9]), Number: binary.BigEndian.Uint32(raw[9:13])}, nil
}

// brightness is the mean luma of a rectangle, 0 to 0xffff.
func brightness(img image.Image, r image.Rectangle) uint32 {
	var sum, n uint32
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			sum += uint32(color.Gray16Model.Convert(img.At(x, y)).(color.Gray16).Y)
			n++
		}
	}
	return sum / n
}
