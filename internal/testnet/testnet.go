// Package testnet gives tests network namespaces of their own: small networks
// of veth wires with foreign programs at the far end. Only tests use it, on
// Linux as root.
//
// A test that needs one begins with
//
//	if !testnet.Isolate(t) {
//		return
//	}
//
// and from there on runs alone in a process of its own, in an empty namespace.
package testnet

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// insideVariable names the test that a process was started for.
const insideVariable = "KEYHOLE_TESTNET"

// Isolate runs the calling test again, in a process in a new network namespace
// with nothing but a loopback interface, and reports true there. In the first
// process it reports false once that is over, and the test must return. A
// process of its own is needed because goroutines change threads, and threads
// are what the kernel puts into namespaces. It skips where the user is not root
// or the system is not Linux.
func Isolate(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) == t.Name() {
		run(t, "ip", "link", "set", "dev", "lo", "up")
		return true
	}
	Root(t)
	ns := New(t)
	cmd := ns.Command(os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), insideVariable+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in its own namespace: %v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// A Namespace is a network namespace that goes away with its test.
type Namespace struct{ Name string }

// New makes an empty namespace with a name that nobody else has.
func New(t testing.TB) *Namespace {
	t.Helper()
	sweep()
	ns := &Namespace{Name: fmt.Sprintf("%s%d-%s", namePrefix, os.Getpid(), strings.ToLower(rand.Text()[:8]))}
	run(t, "ip", "netns", "add", ns.Name)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", ns.Name).CombinedOutput(); err != nil {
			t.Errorf("delete namespace: %v: %s", err, out)
		}
	})
	ns.IP(t, "link set dev lo up")
	return ns
}

// namePrefix begins the name of every namespace of ours; the process that made
// it follows.
const namePrefix = "kh-"

// sweep deletes what tests left behind that were killed: namespaces of ours whose
// process is no more. It runs once in a process.
var sweep = sync.OnceFunc(func() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // there are none yet
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), namePrefix)
		pid, err := strconv.Atoi(strings.SplitN(rest, "-", 2)[0])
		if !ours || err != nil {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); os.IsNotExist(err) {
			_ = exec.Command("ip", "netns", "del", e.Name()).Run()
		}
	}
})

// IP runs ip(8) inside; the words of command are separated by spaces.
func (n *Namespace) IP(t testing.TB, command string) {
	t.Helper()
	run(t, "ip", append([]string{"-n", n.Name}, strings.Fields(command)...)...)
}

// Command returns a command that runs inside.
func (n *Namespace) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.Name, name}, args...)...)
}

// Wire lays a veth pair from the namespace the test is in to this one; both ends
// are up and have no address.
func (n *Namespace) Wire(t testing.TB, here, there string) {
	t.Helper()
	IP(t, fmt.Sprintf("link add %s type veth peer name %s netns %s", here, there, n.Name))
	IP(t, "link set dev "+here+" up")
	n.IP(t, "link set dev "+there+" up")
}

// IP runs ip(8) in the namespace the test is in.
func IP(t testing.TB, command string) {
	t.Helper()
	run(t, "ip", strings.Fields(command)...)
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}
