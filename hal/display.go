package hal

// A Display shows one picture at a time. Show returns when the picture is on
// its way and does not keep p; the whole picture is replaced, since a full
// 128x64 transfer takes an I2C bus at 400 kHz some 25 ms. Close blanks the
// display. Both are safe from several goroutines.
type Display interface {
	Show(p *Picture) error
	Close() error
}
