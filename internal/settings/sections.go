package settings

import (
	"fmt"
	"slices"
	"strconv"
)

// Sections reads a list of tables, [[name]] sections, at path into a list of at
// most most.
// Fresh makes one with its defaults; it is told where it stands and what it will get.
func Sections[T any](d *Decoder, into *[]T, value any, path []string, most int, fresh func(at []string, keys map[string]any) T) {
	name := path[len(path)-1]
	tables, ok := Tables(value)
	switch {
	case !ok:
		d.WrongType(path, "a list of sections: write [["+Dotted(path)+"]] with double brackets", value)
		return
	case len(tables) > most:
		d.Fail(path, fmt.Sprintf("%d sections of %s: at most %d are allowed", len(tables), name, most), "")
		return
	}
	for i, table := range tables {
		at := append(slices.Clone(path), strconv.Itoa(i))
		one := fresh(at, table)
		d.Table(&one, table, at)
		*into = append(*into, one)
	}
}
