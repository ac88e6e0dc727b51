package acl

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
)

// A call is one system call of a child that touched its files, or an
// acknowledgement.
type call struct {
	name   string // open, write, truncate, sync, rename, unlink, mkdir, ack
	path   string // under the child's directory
	to     string // of rename
	offset int64
	data   []byte
	size   int64  // of truncate
	create bool   // of open: it may make the file
	n      uint64 // of ack
}

// record runs a child for n changes under strace.
func record(t testing.TB, dir string, n int) []call {
	t.Helper()
	strace := testnet.Program(t, "strace")
	out := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "--seccomp-bpf", "-qq", "-xx", "-s", "1000000", "-o", out,
		"-e", "trace=openat,close,write,pwrite64,pwritev,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,dup,dup2,dup3",
		os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childCount+"="+strconv.Itoa(n))
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("strace: %v: %s", err, text)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	calls, err := parseTrace(f, dir)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

var (
	callLine    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (-?\d+)`)
	resumedLine = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	quoted      = regexp.MustCompile(`"([^"]*)"`)
)

// parseTrace keeps the calls that worked, in the order in which they ended.
func parseTrace(r io.Reader, dir string) ([]call, error) {
	p := &tracer{dir: dir, files: map[string]string{}, at: map[string]int64{}}
	begun := map[string]string{}
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadString('\n')
		if err == io.EOF {
			return p.calls, nil
		}
		if err != nil {
			return nil, err
		}
		text = strings.TrimSuffix(text, "\n")
		if start, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
			begun[strings.Fields(start)[0]] = start
			continue
		}
		if m := resumedLine.FindStringSubmatch(text); m != nil {
			text = begun[m[1]] + m[2]
		}
		m := callLine.FindStringSubmatch(text)
		if m == nil || strings.HasPrefix(m[4], "-") {
			continue
		}
		if err := p.add(m[2], m[3], m[4]); err != nil {
			return nil, fmt.Errorf("%w in %.200s", err, text)
		}
	}
}

type tracer struct {
	dir   string
	files map[string]string // path under dir of a descriptor
	at    map[string]int64  // where write goes on
	calls []call
}

func (p *tracer) under(hexed string) (string, bool) {
	path, err := hex.DecodeString(strings.ReplaceAll(hexed, `\x`, ""))
	if err != nil {
		return "", false
	}
	if string(path) == p.dir {
		return ".", true
	}
	return strings.CutPrefix(string(path), p.dir+"/")
}

func (p *tracer) add(name, args, result string) error {
	strs := quoted.FindAllStringSubmatch(args, -1)
	descriptor, _, _ := strings.Cut(args, ",")
	path, known := p.files[descriptor]
	switch name {
	case "openat":
		if path, ok := p.under(strs[0][1]); ok {
			p.files[result], p.at[result] = path, 0
			p.calls = append(p.calls, call{name: "open", path: path, create: strings.Contains(args, "O_CREAT")})
			if strings.Contains(args, "O_TRUNC") {
				p.calls = append(p.calls, call{name: "truncate", path: path})
			}
			if strings.Contains(args, "O_APPEND") {
				return fmt.Errorf("O_APPEND is not modelled")
			}
		} else {
			delete(p.files, result)
		}
	case "close":
		delete(p.files, args)
	case "write", "pwrite64":
		data, err := hex.DecodeString(strings.ReplaceAll(strs[0][1], `\x`, ""))
		if err != nil {
			return err
		}
		if descriptor == "1" {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 64)
			p.calls = append(p.calls, call{name: "ack", n: n})
			return err
		}
		if !known {
			return nil
		}
		offset := p.at[descriptor]
		if name == "pwrite64" {
			fields := strings.Split(args, ", ")
			if offset, err = strconv.ParseInt(fields[len(fields)-1], 10, 64); err != nil {
				return err
			}
		} else {
			p.at[descriptor] += int64(len(data))
		}
		if strconv.Itoa(len(data)) != result {
			return fmt.Errorf("%d of %s bytes", len(data), result)
		}
		p.calls = append(p.calls, call{name: "write", path: path, offset: offset, data: data})
	case "ftruncate":
		size, err := strconv.ParseInt(strings.TrimSpace(args[strings.Index(args, ",")+1:]), 10, 64)
		p.calls = append(p.calls, call{name: "truncate", path: path, size: size})
		return err
	case "fsync", "fdatasync":
		if known {
			p.calls = append(p.calls, call{name: "sync", path: path})
		}
	case "rename", "renameat", "renameat2":
		from, ok := p.under(strs[0][1])
		to, ok2 := p.under(strs[1][1])
		if ok && ok2 {
			p.calls = append(p.calls, call{name: "rename", path: from, to: to})
			for fd, path := range p.files {
				if path == from {
					p.files[fd] = to
				}
			}
		}
	case "unlink", "unlinkat":
		if path, ok := p.under(strs[0][1]); ok {
			p.calls = append(p.calls, call{name: "unlink", path: path})
		}
	case "mkdir", "mkdirat":
		if path, ok := p.under(strs[0][1]); ok {
			p.calls = append(p.calls, call{name: "mkdir", path: path})
		}
	default:
		if known {
			return fmt.Errorf("%s is not modelled", name)
		}
	}
	return nil
}
