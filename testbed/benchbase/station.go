package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keyholed/keyhole/basestation"
	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A station is the basestation's process.
type station struct {
	cmd     *exec.Cmd
	address netip.AddrPort
	root    attach.Root
}

// start runs the program, or this one as a basestation, in a directory of its own.
func start(s *settings, dir string) (*station, error) {
	if s.bin == "" {
		return startSelf(s, dir)
	}
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	key, err := exec.Command(s.bin, "key", "--data", dir).Output()
	if err != nil {
		return nil, fmt.Errorf("%s key: %w", s.bin, err)
	}
	cmd := exec.Command(s.bin, "serve", "--data", dir, "--listen", address.String(), "--api", "")
	log, err := os.Create(filepath.Join(dir, "benchbase.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	return started(cmd, address, strings.TrimSpace(string(key)))
}

func startSelf(s *settings, dir string) (*station, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-role", "station", "-data", dir, "-store", s.store, "-profile", s.profile)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		said <- line
	}()
	st, err := started(cmd, netip.AddrPort{}, "")
	if err != nil {
		return nil, err
	}
	words := strings.Fields(<-said)
	if len(words) != 2 {
		st.stop()
		return nil, errors.New("the basestation does not start")
	}
	if st.address, err = netip.ParseAddrPort(words[0]); err == nil {
		st.root.Key, err = attach.ParseRootKey(words[1])
	}
	return st, err
}

func started(cmd *exec.Cmd, address netip.AddrPort, key string) (*station, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	st := &station{cmd: cmd, address: address}
	var err error
	if key != "" {
		st.root.Key, err = attach.ParseRootKey(key)
	}
	return st, err
}

func (st *station) stop() {
	st.cmd.Process.Signal(syscall.SIGTERM)
	gone := time.AfterFunc(10*time.Second, func() { st.cmd.Process.Kill() })
	defer gone.Stop()
	st.cmd.Wait()
}

// freePort is one that is free for TCP, and thus nearly always for UDP too.
func freePort() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// cpu is what the process has used so far.
func (st *station) cpu() time.Duration {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", st.cmd.Process.Pid))
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
}

// memory is what is resident now, and was at most, in KiB.
func (st *station) memory() (now, peak int) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.cmd.Process.Pid))
	for line := range strings.Lines(string(raw)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &now)
		fmt.Sscanf(line, "VmHWM: %d kB", &peak)
	}
	return now, peak
}

// serve is the role of the basestation.
func serve(ctx context.Context, s *settings, data string) error {
	var records store.Store
	if s.store == "mem" {
		records = memstore.New()
	} else {
		opened, err := natsstore.Open(ctx, natsstore.Config{Dir: filepath.Join(data, "store")})
		if err != nil {
			return err
		}
		records = opened
	}
	defer records.Close()
	server, err := basestation.New(basestation.Config{Listen: []string{"127.0.0.1:0"}, Data: data, Store: records, Relay: &relay.Config{}})
	if err != nil {
		return err
	}
	stop, err := profile(s.profile)
	if err != nil {
		return err
	}
	defer stop()
	go func() {
		<-server.Ready()
		fmt.Println(server.Address(), server.Keys()[0])
	}()
	return server.Run(ctx)
}

// profile writes one of the CPU, and at the end one of the heap.
func profile(dir string) (stop func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(dir, "station.cpu"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
		if heap, err := os.Create(filepath.Join(dir, "station.heap")); err == nil {
			_ = pprof.WriteHeapProfile(heap)
			heap.Close()
		}
	}, nil
}
