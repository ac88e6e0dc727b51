package acl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// Before bbolt maps a file it is read and walked here, because bbolt answers a
// damaged page with an assertion, sometimes in a goroutine of its own where
// nothing can recover, and a truncated file with a fatal signal. What passes
// vet has whole pages, a tree without cycles, keys in order, and nothing that
// points outside; that the values are ours is proven by their seals.
//
// The layout is bbolt's file format version 2, host byte order:
//
//	page      id 8 | flags 2 | count 2 | overflow 4 | elements
//	branch    position 4 | key size 4 | page id 8         position counts from the element
//	leaf      flags 4 | position 4 | key size 4 | value size 4
//	meta      magic 4 | version 4 | page size 4 | flags 4 | root page 8 | root sequence 8 |
//	          freelist page 8 | high water page 8 | transaction 8 | FNV-1a of the above 8
const (
	pageBytes   = 4096
	pageHeader  = 16
	elementSize = 16
	metaBytes   = 64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagBucket   = 0x01 // of a leaf element
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	noFreelist   = ^uint64(0)
	bucketHeader = 16

	// maxImageBytes bounds each copy. bbolt makes the file this long (sparse) at
	// once, so that it never grows in a change: growing costs one sync more.
	// 1,000 ordinary users are 300 kB; a list near 1 MiB is refused by MaxListBytes.
	maxImageBytes = 4 << 20
	maxDepth      = 16
)

var errImage = errors.New("not a sound store file")

type image struct {
	data []byte
	high uint64 // pages in use: ids below
	seen map[uint64]bool
}

// vetFile reads and walks the file at path.
func vetFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() < 4*pageBytes || info.Size() > maxImageBytes {
		return fmt.Errorf("%w: size %d", errImage, info.Size())
	}
	metas := make([]byte, 2*pageBytes)
	if _, err := io.ReadFull(f, metas); err != nil {
		return err
	}
	meta, err := newestMeta(metas)
	if err != nil {
		return err
	}
	if meta.high > uint64(info.Size())/pageBytes {
		return fmt.Errorf("%w: truncated to %d bytes", errImage, info.Size())
	}
	data := make([]byte, meta.high*pageBytes)
	if _, err := f.ReadAt(data, 0); err != nil {
		return err
	}
	return vet(data)
}

// vet walks a whole image: all pages in use.
func vet(data []byte) error {
	meta, err := newestMeta(data)
	if err != nil {
		return err
	}
	if meta.high*pageBytes > uint64(len(data)) {
		return fmt.Errorf("%w: truncated", errImage)
	}
	im := &image{data: data, high: meta.high, seen: map[uint64]bool{}}
	return im.tree(meta.root, 0, span{}, true)
}

type meta struct{ root, high, transaction uint64 }

// newestMeta is the one bbolt will choose.
func newestMeta(data []byte) (meta, error) {
	var best meta
	found := false
	for i := range 2 {
		if len(data) < (i+1)*pageBytes {
			break
		}
		page := data[i*pageBytes : (i+1)*pageBytes]
		m, err := parseMeta(page, uint64(i))
		if err == nil && (!found || m.transaction > best.transaction) {
			best, found = m, true
		}
	}
	if !found {
		return meta{}, fmt.Errorf("%w: no valid meta page", errImage)
	}
	return best, nil
}

func parseMeta(page []byte, id uint64) (meta, error) {
	ne := binary.NativeEndian
	b := page[pageHeader : pageHeader+metaBytes]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaBytes-8]) // never fails
	if ne.Uint32(b) != boltMagic || ne.Uint32(b[4:]) != boltVersion || ne.Uint64(b[56:]) != sum.Sum64() {
		return meta{}, errImage
	}
	m := meta{root: ne.Uint64(b[16:]), high: ne.Uint64(b[40:]), transaction: ne.Uint64(b[48:])}
	switch {
	case ne.Uint64(page) != id || ne.Uint16(page[8:]) != flagMeta,
		ne.Uint32(b[8:]) != pageBytes,
		ne.Uint64(b[32:]) != noFreelist, // we never write one: see copyOptions
		m.high < 4 || m.high > maxImageBytes/pageBytes:
		return meta{}, errImage
	}
	return m, nil
}

// span is what keys of a subtree must be in; nil is open.
type span struct{ from, to []byte }

func (s span) holds(key []byte) bool {
	return (s.from == nil || bytes.Compare(key, s.from) >= 0) && (s.to == nil || bytes.Compare(key, s.to) < 0)
}

// tree walks the pages below id. Only the root bucket may hold buckets.
func (im *image) tree(id uint64, depth int, within span, root bool) error {
	if id < 2 || id >= im.high || depth > maxDepth {
		return fmt.Errorf("%w: page %d", errImage, id)
	}
	page := im.data[id*pageBytes : (id+1)*pageBytes]
	ne := binary.NativeEndian
	overflow := uint64(ne.Uint32(page[12:]))
	if ne.Uint64(page) != id || overflow >= im.high-id {
		return fmt.Errorf("%w: page %d", errImage, id)
	}
	for p := id; p <= id+overflow; p++ {
		if im.seen[p] {
			return fmt.Errorf("%w: page %d is reached twice", errImage, p)
		}
		im.seen[p] = true
	}
	page = im.data[id*pageBytes : (id+overflow+1)*pageBytes]
	switch ne.Uint16(page[8:]) {
	case flagBranch:
		return im.branch(page, depth, within, root)
	case flagLeaf:
		return im.leaf(page, depth, within, root)
	}
	return fmt.Errorf("%w: page %d has no kind", errImage, id)
}

func (im *image) branch(page []byte, depth int, within span, root bool) error {
	ne := binary.NativeEndian
	count := int(ne.Uint16(page[10:]))
	if count == 0 || pageHeader+count*elementSize > len(page) {
		return fmt.Errorf("%w: branch", errImage)
	}
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeader + i*elementSize
		e := page[at:]
		key, err := slice(page, at, ne.Uint32(e), ne.Uint32(e[4:]))
		if err != nil {
			return err
		}
		keys[i] = key
	}
	for i, key := range keys {
		if !within.holds(key) || i > 0 && bytes.Compare(keys[i-1], key) >= 0 {
			return fmt.Errorf("%w: keys out of order", errImage)
		}
		below := span{key, within.to}
		if i+1 < count {
			below.to = keys[i+1]
		}
		child := ne.Uint64(page[pageHeader+i*elementSize+8:])
		if err := im.tree(child, depth+1, below, root); err != nil {
			return err
		}
	}
	return nil
}

func (im *image) leaf(page []byte, depth int, within span, root bool) error {
	ne := binary.NativeEndian
	count := int(ne.Uint16(page[10:]))
	if pageHeader+count*elementSize > len(page) {
		return fmt.Errorf("%w: leaf", errImage)
	}
	var last []byte
	for i := range count {
		at := pageHeader + i*elementSize
		e := page[at:]
		flags, position, keyBytes, valueBytes := ne.Uint32(e), ne.Uint32(e[4:]), ne.Uint32(e[8:]), ne.Uint32(e[12:])
		key, err := slice(page, at, position, keyBytes)
		if err != nil {
			return err
		}
		value, err := slice(page, at, position+keyBytes, valueBytes)
		if err != nil {
			return err
		}
		if len(key) == 0 || !within.holds(key) || i > 0 && bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("%w: keys out of order", errImage)
		}
		last = key
		switch {
		case flags == 0 && !root:
		case flags == flagBucket && root:
			if err := im.bucket(value, depth); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: a value where a bucket should be, or the other way round", errImage)
		}
	}
	return nil
}

// bucket follows a bucket: to its root page, or into the page that is its value.
func (im *image) bucket(value []byte, depth int) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("%w: bucket", errImage)
	}
	if id := binary.NativeEndian.Uint64(value); id != 0 {
		return im.tree(id, depth+1, span{}, false)
	}
	page := value[bucketHeader:]
	ne := binary.NativeEndian
	if len(page) < pageHeader || ne.Uint64(page) != 0 || ne.Uint16(page[8:]) != flagLeaf || ne.Uint32(page[12:]) != 0 {
		return fmt.Errorf("%w: bucket", errImage)
	}
	return im.leaf(page, depth+1, span{}, false)
}

// slice is length bytes at position counted from the element at base. Elements
// and keys share a page, so neither may begin before the first nor end after the last byte.
func slice(page []byte, base int, position, length uint32) ([]byte, error) {
	from := uint64(base) + uint64(position)
	to := from + uint64(length)
	if position < elementSize || to > uint64(len(page)) {
		return nil, fmt.Errorf("%w: an element points outside its page", errImage)
	}
	return page[from:to], nil
}
