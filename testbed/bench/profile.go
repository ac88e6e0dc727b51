package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// startProfile writes a CPU profile of each role into the folder that
// BENCH_PROFILE names; without it nothing happens.
func startProfile(role string) (stop func(), err error) {
	dir := os.Getenv("BENCH_PROFILE")
	if dir == "" {
		return func() {}, nil
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%d", role, os.Getpid()))
	f, err := os.Create(name + ".cpu")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// profileMemory writes the heap and what the runtime says of its memory, as
// they are when a role is weighed. The last one stands.
func profileMemory(role string) {
	dir := os.Getenv("BENCH_PROFILE")
	if dir == "" {
		return
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%d", role, os.Getpid()))
	if h, err := os.Create(name + ".heap"); err == nil {
		pprof.WriteHeapProfile(h)
		h.Close()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if f, err := os.OpenFile(name+".memory", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		fmt.Fprintf(f, "heap %d in use %d stacks %d goroutines %d system %d\n", m.HeapAlloc>>10, m.HeapInuse>>10, m.StackInuse>>10, runtime.NumGoroutine(), m.Sys>>10)
		f.Close()
	}
}
