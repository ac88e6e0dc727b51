// Package testnats runs real nats-server processes for tests: the program built
// from the module that go.mod pins, one or a cluster, on loopback addresses that
// nobody else has, to be killed and started again.
package testnats

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
)

// Cluster is one or more servers that know each other.
type Cluster struct {
	t       *testing.T
	dir     string
	program string
	Servers []*Server
}

// Server is one nats-server.
type Server struct {
	Name    string
	cluster *Cluster
	host    string // a loopback address of its own
	command *exec.Cmd
	log     *os.File
}

const (
	clientPort  = "4222"
	routePort   = "6222"
	monitorPort = "8222"
)

// Start builds the program and starts n servers with JetStream; what extra says of
// a server's IP address is added to its configuration. Nil: nothing. They end with
// the test.
func Start(t *testing.T, n int, extra func(ip string) string) *Cluster {
	t.Helper()
	dir := t.TempDir()
	c := &Cluster{t: t, dir: dir, program: build(t)}
	var network [2]byte
	_, _ = rand.Read(network[:]) // never fails
	for i := range n {
		s := &Server{Name: fmt.Sprintf("nats%d", i), cluster: c, host: fmt.Sprintf("127.%d.%d.%d", 10+network[0]%200, network[1], i+1)}
		c.Servers = append(c.Servers, s)
	}
	for _, s := range c.Servers {
		c.configure(s, extra)
		s.Start()
	}
	t.Cleanup(func() {
		for _, s := range c.Servers {
			s.Kill()
		}
	})
	for _, s := range c.Servers {
		s.wait()
	}
	c.Settle()
	return c
}

// build makes the program once for a test process.
func build(t *testing.T) string {
	t.Helper()
	programOnce.Do(func() {
		dir, err := os.MkdirTemp("", "nats-server")
		if err != nil {
			programError = err
			return
		}
		program = filepath.Join(dir, "nats-server")
		out, err := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput()
		if err != nil {
			programError = fmt.Errorf("build nats-server: %w\n%s", err, out)
		}
	})
	if programError != nil {
		t.Fatal(programError)
	}
	return program
}

var (
	programOnce  sync.Once
	program      string
	programError error
)

// Clean removes the program; call it at the end of TestMain.
func Clean() {
	if program != "" {
		os.RemoveAll(filepath.Dir(program))
	}
}

func (c *Cluster) configure(s *Server, extra func(ip string) string) {
	var routes []string
	for _, other := range c.Servers {
		routes = append(routes, "nats://"+net.JoinHostPort(other.host, routePort))
	}
	cluster := ""
	if len(c.Servers) > 1 {
		cluster = fmt.Sprintf("cluster { name: test, listen: %q, routes: [%s] }\n",
			net.JoinHostPort(s.host, routePort), strings.Join(routes, ", "))
	}
	more := ""
	if extra != nil {
		more = extra(s.host)
	}
	text := fmt.Sprintf("server_name: %s\nlisten: %q\nhttp: %q\njetstream { store_dir: %q }\n%s%s\n",
		s.Name, net.JoinHostPort(s.host, clientPort), net.JoinHostPort(s.host, monitorPort),
		filepath.Join(c.dir, s.Name), cluster, more)
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (s *Server) config() string { return filepath.Join(s.cluster.dir, s.Name+".conf") }

// Address is where clients reach it, host and port.
func (s *Server) Address() string { return net.JoinHostPort(s.host, clientPort) }

// URL names all servers, for a client.
func (c *Cluster) URL() string {
	var all []string
	for _, s := range c.Servers {
		all = append(all, "nats://"+s.Address())
	}
	return strings.Join(all, ",")
}

// Start starts the server's process, for the first time or again.
func (s *Server) Start() {
	t := s.cluster.t
	t.Helper()
	log, err := os.OpenFile(s.config()+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s.log = log
	s.command = exec.Command(s.cluster.program, "-c", s.config())
	s.command.Stdout, s.command.Stderr = log, log
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
}

// Kill ends it as kill -9 does; a server that does not run stays so.
func (s *Server) Kill() {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill() // it may have ended by itself
	_ = s.command.Wait()
	s.command = nil
	s.log.Close()
}

// Pause stops it as a machine that hangs, or a network that swallows everything:
// its connections stay. Resume has it go on.
func (s *Server) Pause()  { s.signal(syscall.SIGSTOP) }
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(what syscall.Signal) {
	s.cluster.t.Helper()
	if err := s.command.Process.Signal(what); err != nil {
		s.cluster.t.Fatal(err)
	}
}

// Restart starts it again and waits until it answers.
func (s *Server) Restart() {
	s.cluster.t.Helper()
	s.Start()
	s.wait()
}

// wait polls the health page, which needs nothing but the server.
func (s *Server) wait() {
	t := s.cluster.t
	t.Helper()
	testnet.Eventually(t, s.Name+" comes up", func() error {
		err := s.get("/healthz?js-server-only=true", nil)
		if err != nil {
			text, _ := os.ReadFile(s.config() + ".log")
			err = fmt.Errorf("%w\n%s", err, text)
		}
		return err
	})
}

func (s *Server) get(path string, into any) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + net.JoinHostPort(s.host, monitorPort) + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// Settle waits until the servers that run have a leader of their JetStream.
func (c *Cluster) Settle() {
	c.t.Helper()
	if len(c.Servers) == 1 {
		return
	}
	testnet.Until(c.t, "the nats cluster has a leader", c.led)
}

func (c *Cluster) led() bool {
	for _, s := range c.Servers {
		if s.command == nil {
			continue
		}
		var state struct {
			Meta struct {
				Leader string `json:"leader"`
			} `json:"meta_cluster"`
		}
		if s.get("/jsz", &state) != nil || state.Meta.Leader == "" {
			return false
		}
	}
	return true
}

// Leader returns the server that leads a stream.
func (c *Cluster) Leader(stream string) *Server {
	c.t.Helper()
	var leader *Server
	testnet.Until(c.t, "somebody leads stream "+stream, func() bool {
		for _, s := range c.Servers {
			if s.command != nil && s.leads(stream) {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

func (s *Server) leads(stream string) bool {
	var state struct {
		Accounts []struct {
			Streams []struct {
				Name    string `json:"name"`
				Cluster struct {
					Leader string `json:"leader"`
				} `json:"cluster"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if s.get("/jsz?streams=true", &state) != nil {
		return false
	}
	for _, a := range state.Accounts {
		for _, d := range a.Streams {
			if d.Name == stream && d.Cluster.Leader == s.Name {
				return true
			}
		}
	}
	return false
}
