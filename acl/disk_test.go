package acl

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// disk is what a file system promises, and no more: the content of a file up to
// its last sync, and the names in a directory up to that directory's last sync.
// What came after may be there, not be there, be there in part or in any order
// when the power is cut. Names change in order within a directory (journals keep
// that), contents do not.
type disk struct {
	inodes []*inode
	dirs   map[string]*directory
	files  map[string]int // inode by path, as the program sees it
	noSync bool           // forget to sync, to see that somebody notices
}

type inode struct {
	stable  sparse
	pending []call
}

// sparse is the content of a file: data, then zeros up to size.
type sparse struct {
	data []byte
	size int64
}

type directory struct {
	stable  map[string]int // -1 is a directory
	pending []func(map[string]int)
}

func newDisk() *disk {
	return &disk{dirs: map[string]*directory{".": {stable: map[string]int{}}}, files: map[string]int{}}
}

// diskOf is a disk with the files below root, synced.
func diskOf(root string) (*disk, error) {
	d := newDisk()
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, p)
		switch {
		case err != nil || rel == ".":
			return err
		case e.IsDir():
			d.do(call{name: "mkdir", path: rel})
			return nil
		}
		data, err := os.ReadFile(p)
		d.do(call{name: "open", path: rel, create: true})
		d.do(call{name: "write", path: rel, data: bytes.TrimRight(data, "\x00")})
		d.do(call{name: "truncate", path: rel, size: int64(len(data))})
		return err
	})
	for name := range d.files {
		d.do(call{name: "sync", path: name})
	}
	for name := range d.dirs {
		d.do(call{name: "sync", path: name})
	}
	return d, err
}

func (d *disk) rename(dir string, f func(map[string]int)) {
	d.dirs[dir].pending = append(d.dirs[dir].pending, f)
}

func (d *disk) do(c call) {
	dir, name := path.Split(c.path)
	dir = path.Clean(dir)
	switch c.name {
	case "open":
		if _, there := d.files[c.path]; !there && c.create {
			d.inodes = append(d.inodes, &inode{})
			i := len(d.inodes) - 1
			d.files[c.path] = i
			d.rename(dir, func(m map[string]int) { m[name] = i })
		}
	case "write", "truncate":
		if i, ok := d.files[c.path]; ok {
			d.inodes[i].pending = append(d.inodes[i].pending, c)
		}
	case "mkdir":
		d.dirs[c.path] = &directory{stable: map[string]int{}}
		d.rename(dir, func(m map[string]int) { m[name] = -1 })
	case "rename":
		i := d.files[c.path]
		delete(d.files, c.path)
		d.files[c.to] = i
		to := path.Base(c.to)
		d.rename(dir, func(m map[string]int) { delete(m, name); m[to] = i })
	case "unlink":
		delete(d.files, c.path)
		d.rename(dir, func(m map[string]int) { delete(m, name) })
	case "sync":
		if d.noSync {
			return
		}
		if n := d.dirs[c.path]; n != nil {
			for _, f := range n.pending {
				f(n.stable)
			}
			n.pending = nil
		} else if i, ok := d.files[c.path]; ok {
			d.inodes[i].stable = d.inodes[i].content(func(int) bool { return true })
			d.inodes[i].pending = nil
		}
	}
}

func (i *inode) content(kept func(int) bool) sparse {
	f := sparse{slices.Clone(i.stable.data), i.stable.size}
	for n, c := range i.pending {
		if kept(n) {
			f.apply(c)
		}
	}
	return f
}

func (f *sparse) apply(c call) {
	if c.name == "truncate" {
		f.size = c.size
		f.data = f.data[:min(int64(len(f.data)), c.size)]
		return
	}
	end := c.offset + int64(len(c.data))
	if gap := end - int64(len(f.data)); gap > 0 {
		f.data = append(f.data, make([]byte, gap)...)
	}
	copy(f.data[c.offset:], c.data)
	f.size = max(f.size, end)
}

// cuts are the ways in which a cut may treat what was not synced.
var cuts = []string{"dropped", "kept", "mixed", "torn", "last only", "size only"}

// survive writes to root what one such cut leaves.
func (d *disk) survive(root, cut string, random *rand.Rand) error {
	for _, dir := range slices.Sorted(maps.Keys(d.dirs)) {
		if err := d.surviveDir(root, dir, cut, random); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) surviveDir(root, dir, cut string, random *rand.Rand) error {
	n := d.dirs[dir]
	entries := maps.Clone(n.stable)
	keep := len(n.pending)
	switch cut {
	case "dropped":
		keep = 0
	case "mixed", "torn":
		keep = random.IntN(keep + 1)
	}
	for _, f := range n.pending[:keep] {
		f(entries)
	}
	if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
		return nil // its own name was lost
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		at, i := filepath.Join(root, dir, name), entries[name]
		if i < 0 {
			if err := os.MkdirAll(at, 0o700); err != nil {
				return err
			}
			continue
		}
		if err := writeSparse(at, d.inodes[i].survive(cut, random)); err != nil {
			return err
		}
	}
	return nil
}

func (i *inode) survive(cut string, random *rand.Rand) sparse {
	last := len(i.pending) - 1
	switch cut {
	case "dropped":
		return i.stable
	case "kept":
		return i.content(func(int) bool { return true })
	case "last only":
		return i.content(func(n int) bool { return n == last })
	case "size only": // the length was written, the data was not: zeros
		f := i.content(func(int) bool { return true })
		return sparse{i.stable.data[:min(int64(len(i.stable.data)), f.size)], f.size}
	case "torn":
		if last >= 0 && i.pending[last].name == "write" {
			f := i.content(func(n int) bool { return n < last })
			c := i.pending[last]
			c.data = c.data[:random.IntN(len(c.data)+1)]
			if len(c.data) > 0 {
				f.apply(c)
			}
			return f
		}
	}
	return i.content(func(int) bool { return random.IntN(2) == 0 })
}

func writeSparse(name string, f sparse) error {
	if err := os.WriteFile(name, f.data, 0o600); err != nil {
		return err
	}
	return os.Truncate(name, f.size)
}
