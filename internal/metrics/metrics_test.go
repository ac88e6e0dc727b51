package metrics

import (
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
)

func written(s *Set) string {
	var b strings.Builder
	s.Write(&b)
	return b.String()
}

func TestWrite(t *testing.T) {
	s := NewSet()
	b := s.NewCounter(`keyhole_x_total{kind="b"}`)
	a := s.NewCounter(`keyhole_x_total{kind="a"}`)
	s.NewCounter("keyhole_x_total_long")
	s.GaugeFunc("keyhole_devices", func() float64 { return 1_000_000 })
	h := s.NewHistogram(`keyhole_seconds{route="/v1"}`, 0.5, 2)
	bare := s.NewHistogram("keyhole_bare", 1)
	b.Inc()
	a.Add(41)
	a.Inc()
	for _, v := range []float64{0.25, 0.5, 1, 3} {
		h.Update(v)
	}
	bare.Update(math.Inf(1))
	want := `# TYPE keyhole_bare histogram
keyhole_bare_bucket{le="1"} 0
keyhole_bare_bucket{le="+Inf"} 1
keyhole_bare_sum +Inf
keyhole_bare_count 1
# TYPE keyhole_devices gauge
keyhole_devices 1e+06
# TYPE keyhole_seconds histogram
keyhole_seconds_bucket{route="/v1",le="0.5"} 2
keyhole_seconds_bucket{route="/v1",le="2"} 3
keyhole_seconds_bucket{route="/v1",le="+Inf"} 4
keyhole_seconds_sum{route="/v1"} 4.75
keyhole_seconds_count{route="/v1"} 4
# TYPE keyhole_x_total counter
keyhole_x_total{kind="a"} 42
keyhole_x_total{kind="b"} 1
# TYPE keyhole_x_total_long counter
keyhole_x_total_long 0
`
	if got := written(s); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCountsOfManyAreWhole(t *testing.T) {
	s := NewSet()
	c, h := s.NewCounter("c"), s.NewHistogram("h", 1)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				c.Inc()
				h.Update(0.5)
			}
		})
	}
	all.Wait()
	if got := written(s); !strings.Contains(got, "c 8000\n") || !strings.Contains(got, "h_sum 4000\n") || !strings.Contains(got, "h_count 8000\n") {
		t.Error(got)
	}
}

func TestProcess(t *testing.T) {
	s := NewSet()
	s.Process()
	got := written(s)
	for _, name := range []string{"process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds", "go_goroutines", "go_memory_heap_bytes"} {
		if !regexp.MustCompile(`(?m)^` + name + ` [1-9]`).MatchString(got) {
			t.Errorf("%s is missing or 0:\n%s", name, got)
		}
	}
}

func TestTheSameNameTwicePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the second one was taken")
		}
	}()
	s := NewSet()
	s.NewCounter("c")
	s.NewCounter("c")
}
