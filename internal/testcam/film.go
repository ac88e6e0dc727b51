package testcam

import (
	"bytes"
	"errors"
	"image/jpeg"
	"sync"
	"time"
)

// A frame is one encoded picture. It is shared by all who watch and never
// changes.
type frame struct {
	number uint32
	taken  time.Time // monotonic
	jpeg   []byte    // the whole file, as HTTP gives it
	parts  jpegParts // the same bytes, as RTP wants them
}

// errFull means that the camera has as many viewers as it may have.
var errFull = errors.New("too many viewers")

// film makes the frames and hands them to whoever watches. Nothing is drawn
// while nobody does.
type film struct {
	painter *painter
	every   time.Duration // between two frames
	quality int           // of JPEG, 1 to 99
	most    int           // viewers at once
	wake    chan struct{} // holds one token when the first viewer came

	mu      sync.Mutex
	viewers map[*viewer]struct{}
}

// A viewer is one who watches. Its channel holds the newest frame only: one
// that is slow misses frames and delays nobody.
type viewer struct {
	frames chan *frame
	film   *film
}

func newFilm(p *painter, every time.Duration, quality, most int) *film {
	return &film{
		painter: p, every: every, quality: quality, most: most,
		wake:    make(chan struct{}, 1),
		viewers: make(map[*viewer]struct{}),
	}
}

// watch adds a viewer, or returns errFull. leave must follow.
func (f *film) watch() (*viewer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.viewers) >= f.most {
		return nil, errFull
	}
	v := &viewer{frames: make(chan *frame, 1), film: f}
	f.viewers[v] = struct{}{}
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return v, nil
}

// leave may be called more than once.
func (v *viewer) leave() {
	v.film.mu.Lock()
	defer v.film.mu.Unlock()
	delete(v.film.viewers, v)
}

// show gives a frame to everyone, in the place of an older one not yet taken.
func (f *film) show(fr *frame) (watched bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for v := range f.viewers {
		select {
		case <-v.frames:
		default:
		}
		v.frames <- fr // never blocks: only show sends, and there is room now
	}
	return len(f.viewers) > 0
}

// run films until done is closed.
func (f *film) run(done <-chan struct{}) {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	var buf bytes.Buffer
	start, number := time.Now(), uint32(0)
	for watched := false; ; {
		if !watched {
			select {
			case <-done:
				return
			case <-f.wake:
			}
		}
		// The number follows the clock and not the work, so that the ball has
		// one speed and a pause shows.
		now := time.Now()
		number = max(number+1, 1+uint32(now.Sub(start)/f.every)) // a late tick brings two in a hurry
		fr := &frame{number: number, taken: now}
		buf.Reset()
		if err := jpeg.Encode(&buf, f.painter.paint(fr.number, now), &jpeg.Options{Quality: f.quality}); err != nil {
			panic(err) // a bytes.Buffer does not fail, and the size was checked at the start
		}
		fr.jpeg = bytes.Clone(buf.Bytes())
		parts, err := dissect(fr.jpeg)
		if err != nil {
			panic(err) // our own encoder's bytes: a test holds every quality
		}
		fr.parts = parts
		watched = f.show(fr)
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}
