package acl

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// A child is killed at a random moment of opening or writing, again and again
// over the same store; every few trials begin with a new one.
func TestKillWhileWriting(t *testing.T) {
	m := newModel(t)
	random := rand.New(rand.NewPCG(1, 2))
	dir, acknowledged, changes := "", uint64(0), uint64(0)
	for trial := range counts(100, 10_000) {
		if trial%counts(4, 20) == 0 {
			_ = os.RemoveAll(dir)
			changes += acknowledged
			dir, acknowledged = memoryDir(t), 0 // a kill loses nothing that was written, wherever
			prepareChild(t, dir)
		}
		// Some of it is spent on loading the child, so that opening is hit as well.
		acks := killedChild(t, dir, time.Duration(1+random.IntN(60))*time.Millisecond)
		acknowledged = max(acknowledged, acks)
		// What was in force but not acknowledged is from now on.
		var err error
		if acknowledged, err = examine(dir, m, acknowledged); err != nil {
			t.Fatalf("trial %d: %v", trial, err)
		}
	}
	if changes == 0 {
		t.Fatal("no child got as far as one change")
	}
	t.Logf("%d changes", changes)
}

// killedChild returns the last change acknowledged before the kill, 0 for none.
func killedChild(t *testing.T, dir string, after time.Duration) uint64 {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // it was killed
	if problems.Len() > 0 {
		t.Fatalf("the child says: %s", problems.String())
	}
	last := uint64(0)
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			break // torn by the kill
		}
		last = n
	}
	return last
}
