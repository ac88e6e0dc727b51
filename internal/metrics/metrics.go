// Package metrics counts, and shows the counts in Prometheus' text format,
// version 0.0.4.
//
// The basestation and its API use it. It has no registry for the whole process,
// no labels but those written into a name, and no types that nobody here needs.
// The library that was meant for this logs a line while it is initialised, in
// every command of a program that links it, on systems without PSI; the format
// is a few lines of printf.
package metrics

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Set is a group of numbers that are shown together. Its methods may be called
// by several goroutines. A name may have labels, as keyhole_x{kind="y"}; a name
// that is there already is a mistake of the program, and panics.
type Set struct {
	mu      sync.Mutex
	numbers map[string]number
}

// number is one metric: what its TYPE line says, and how it is written.
type number struct {
	kind  string
	write func(w io.Writer, name string)
}

// NewSet returns an empty set.
func NewSet() *Set { return &Set{numbers: map[string]number{}} }

func (s *Set) put(name, kind string, write func(w io.Writer, name string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.numbers[name]; taken {
		panic("metrics: " + name + " is there twice")
	}
	s.numbers[name] = number{kind, write}
}

// A Counter only rises.
type Counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n, which must not be negative.
func (c *Counter) Add(n int) { c.n.Add(uint64(n)) }

// Get returns the count.
func (c *Counter) Get() uint64 { return c.n.Load() }

// NewCounter adds a counter; its name ends in _total by custom.
func (s *Set) NewCounter(name string) *Counter {
	c := new(Counter)
	s.CounterFunc(name, func() float64 { return float64(c.Get()) })
	return c
}

// CounterFunc adds a number that somebody else counts up.
func (s *Set) CounterFunc(name string, value func() float64) { s.put(name, "counter", plain(value)) }

// GaugeFunc adds a number that goes up and down.
func (s *Set) GaugeFunc(name string, value func() float64) { s.put(name, "gauge", plain(value)) }

func plain(value func() float64) func(io.Writer, string) {
	return func(w io.Writer, name string) { fmt.Fprintf(w, "%s %s\n", name, format(value())) }
}

// A Histogram counts how many values were at most each of its bounds.
type Histogram struct {
	bounds []float64       // rising
	counts []atomic.Uint64 // one more than bounds; not cumulative
	sum    atomic.Uint64   // bits of a float64
}

// NewHistogram adds a histogram with these bounds, in rising order; above the
// last one there is always +Inf.
func (s *Set) NewHistogram(name string, bounds ...float64) *Histogram {
	h := &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
	s.put(name, "histogram", h.write)
	return h
}

// Update counts a value.
func (h *Histogram) Update(v float64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// UpdateDuration counts the seconds since start.
func (h *Histogram) UpdateDuration(start time.Time) { h.Update(time.Since(start).Seconds()) }

func (h *Histogram) write(w io.Writer, name string) {
	family, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	bucket, own := labels, ""
	if labels != "" {
		bucket, own = labels+",", "{"+labels+"}"
	}
	var n uint64
	for i := range h.counts {
		bound := math.Inf(1)
		if i < len(h.bounds) {
			bound = h.bounds[i]
		}
		n += h.counts[i].Load()
		fmt.Fprintf(w, "%s_bucket{%sle=\"%s\"} %d\n", family, bucket, format(bound), n)
	}
	fmt.Fprintf(w, "%s_sum%s %s\n%s_count%s %d\n", family, own, format(math.Float64frombits(h.sum.Load())), family, own, n)
}

// Write writes all numbers in the order of their names.
func (s *Set) Write(w io.Writer) {
	s.mu.Lock()
	numbers := maps.Clone(s.numbers)
	s.mu.Unlock()
	out := bufio.NewWriter(w)
	last := ""
	for _, name := range slices.SortedFunc(maps.Keys(numbers), byFamily) {
		family, _, _ := strings.Cut(name, "{")
		if family != last {
			fmt.Fprintf(out, "# TYPE %s %s\n", family, numbers[name].kind)
			last = family
		}
		numbers[name].write(out, name)
	}
	_ = out.Flush() // an error means that nobody reads any more
}

// byFamily keeps the numbers of one name together: "{" sorts behind letters.
func byFamily(a, b string) int {
	x, _, _ := strings.Cut(a, "{")
	y, _, _ := strings.Cut(b, "{")
	if x != y {
		return strings.Compare(x, y)
	}
	return strings.Compare(a, b)
}

func format(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
