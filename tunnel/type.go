package tunnel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/tunnel/inject"
)

// A Type is what is known about one kind of service. The table types has them
// all; a new kind is a new row.
type Type struct {
	// Name is what the configuration calls it.
	Name string
	// Port is used when a target names none. 0: a target must name one.
	Port uint16
	// Media says that the tunnels carry pictures or sound and live long; they
	// are counted apart, for whoever must know that somebody is watching.
	Media bool
	// Short says that the tunnels are many and brief, so that clients carry
	// them as streams of the standing session instead of connections of their
	// own.
	Short bool
	// ByItself says that the service can ask for a password of its own, so
	// that access "application" makes sense for it.
	ByItself bool
	// Refusals are the status codes with which the service answers a try that
	// failed. Empty for types that have none to be seen.
	Refusals []int

	// probe asks the service for a sign of life on a fresh connection, nil
	// where being connected is all that can be asked.
	probe func(io.ReadWriter) error
	// watch says that the bytes are followed by the RTSP watcher.
	watch bool
	// inject wraps a connection to a service whose password the device knows;
	// nil where passwords are not a matter of requests.
	inject func(*inject.Vault, inject.Upstream, inject.Dial) inject.Side
}

var types = []Type{
	{Name: "rtsp", Port: 554, Media: true, ByItself: true, Refusals: []int{401, 403}, probe: probeRTSP, watch: true, inject: (*inject.Vault).RTSP},
	{Name: "http", Port: 80, Short: true, ByItself: true, Refusals: []int{401}, probe: probeHTTP, inject: (*inject.Vault).HTTP},
	{Name: "ssh", Port: 22, probe: probeSSH},
	{Name: "tcp"},
}

// TypeOf returns the type of that name.
func TypeOf(name string) (Type, bool) {
	i := slices.IndexFunc(types, func(t Type) bool { return t.Name == name })
	if i < 0 {
		return Type{}, false
	}
	return types[i], true
}

// TypeNames are the names of all types, for messages: "rtsp, http, ssh, tcp".
func TypeNames() string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.Name
	}
	return strings.Join(names, ", ")
}

// maxProbeLine bounds what a probe reads: an SSH version line, the longest of
// the three, has at most 255 bytes (RFC 4253 §4.2).
const maxProbeLine = 256

// probeRTSP asks for the methods: answered without a password by every server,
// and it starts nothing (RFC 2326 §10.1).
func probeRTSP(c io.ReadWriter) error {
	return probeLine(c, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: keyhole\r\n\r\n", "RTSP/")
}

// probeHTTP wants any answer, even 401: it lives.
func probeHTTP(c io.ReadWriter) error {
	return probeLine(c, "HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUser-Agent: keyhole\r\n\r\n", "HTTP/")
}

// probeSSH waits for the version line. Servers may say other lines first
// (RFC 4253 §4.2); that is life as well, but not of the kind looked for.
func probeSSH(c io.ReadWriter) error { return probeLine(c, "", "SSH-") }

func probeLine(c io.ReadWriter, ask, want string) error {
	if ask != "" {
		if _, err := io.WriteString(c, ask); err != nil {
			return err
		}
	}
	line, err := bufio.NewReader(io.LimitReader(c, maxProbeLine)).ReadString('\n')
	if strings.HasPrefix(line, want) {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if line == "" {
		return errors.New("it closed the connection without a word")
	}
	return fmt.Errorf("it says %.40q, not %s…", line, want)
}
