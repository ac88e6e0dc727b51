package metrics

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// Process adds what every program tells of itself, under the names that
// dashboards know. Where the system has no /proc the numbers from there are 0.
func (s *Set) Process() {
	start := float64(time.Now().Unix())
	s.GaugeFunc("process_start_time_seconds", func() float64 { return start })
	s.GaugeFunc("process_resident_memory_bytes", residentBytes)
	s.GaugeFunc("process_open_fds", openFiles)
	s.GaugeFunc("go_goroutines", func() float64 { return float64(runtime.NumGoroutine()) })
	for name, sample := range map[string]string{
		"process_cpu_seconds_total":   "/cpu/classes/user:cpu-seconds", // of Go code, as of the last collection
		"go_gc_cycles_total":          "/gc/cycles/total:gc-cycles",
		"go_memory_allocations_total": "/gc/heap/allocs:objects",
	} {
		s.CounterFunc(name, func() float64 { return runtimeNumber(sample) })
	}
	s.GaugeFunc("go_memory_heap_bytes", func() float64 { return runtimeNumber("/memory/classes/heap/objects:bytes") })
}

func runtimeNumber(name string) float64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	switch sample[0].Value.Kind() {
	case metrics.KindUint64:
		return float64(sample[0].Value.Uint64())
	case metrics.KindFloat64:
		return sample[0].Value.Float64()
	}
	return 0
}

// residentBytes reads /proc/self/statm, whose second number is of pages in RAM.
func residentBytes() float64 {
	data, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(fields[1])
	return float64(pages * os.Getpagesize())
}

func openFiles() float64 {
	names, _ := os.ReadDir("/proc/self/fd")
	return float64(len(names))
}
