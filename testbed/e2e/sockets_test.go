//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestBasestationListens: with NATS inside, a basestation has the sockets that
// its configuration names and no other, of any kind but the one by which its own
// command line reaches it.
func TestBasestationListens(t *testing.T) {
	all, _ := stations(t, 1, "")
	s := all[0]
	const api = "127.0.0.1:17480"
	s.process = start(t, exec.Command(program("keyhole-basestation"), "serve", "--data", s.dir,
		"--listen", s.address, "--advertise", s.address, "--api", api))
	s.serving()
	got := sockets(t, s.process.Process.Pid)
	want := []string{"tcp " + api, "tcp " + s.address, "udp " + s.address, "unix"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("it has the sockets\n %s\nwant\n %s", strings.Join(got, "\n "), strings.Join(want, "\n "))
	}
}

// sockets lists the sockets of a process at which something can arrive, each kind
// and address once: a server may have several of them for its cores.
func sockets(t *testing.T, pid int) []string {
	t.Helper()
	mine := make(map[string]bool)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name())); err == nil {
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				mine[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	found := make(map[string]bool)
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		for _, fields := range table(t, pid, kind) {
			const listening, state, inode = "0A", 3, 9
			if len(fields) > inode && mine[fields[inode]] && (fields[state] == listening || strings.HasPrefix(kind, "udp")) {
				found[strings.TrimSuffix(kind, "6")+" "+socketAddress(t, fields[1]).String()] = true
			}
			if len(fields) > inode {
				delete(mine, fields[inode])
			}
		}
	}
	for _, fields := range table(t, pid, "unix") {
		const flags, inode, accepting = 3, 6, "00010000"
		if len(fields) > inode && mine[fields[inode]] && fields[flags] == accepting {
			found["unix"] = true
		}
		if len(fields) > inode {
			delete(mine, fields[inode])
		}
	}
	for inode := range mine { // netlink, raw, packet: nothing of ours in a basestation
		found["another kind, inode "+inode] = true
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// table reads one of /proc/PID/net without its head.
func table(t *testing.T, pid int, kind string) (rows [][]string) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, kind))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		rows = append(rows, strings.Fields(lines.Text()))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

// socketAddress reads "0100007F:1BB3": the bytes of each word of four turned round.
func socketAddress(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	var raw []byte
	var port uint16
	if _, err := fmt.Sscanf(strings.Replace(text, ":", " ", 1), "%x %x", &raw, &port); err != nil {
		t.Fatalf("address %q: %v", text, err)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		t.Fatalf("address %q", text)
	}
	return netip.AddrPortFrom(ip.Unmap(), port)
}
