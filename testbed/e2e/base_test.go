//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
)

// A base runs keyhole-basestation at testnet.BaseAddress.
type base struct {
	host
	dir, key string
	process  *process
}

const basePort = ":7443"

func newBase(t *testing.T, h host) *base {
	t.Helper()
	b := &base{host: h, dir: filepath.Join(t.TempDir(), "data")}
	b.key = strings.TrimSpace(must(t, h.Command(program("keyhole-basestation"), "key", "--data", b.dir)))
	b.run(t)
	return b
}

// run starts the basestation and waits until it takes connections.
func (b *base) run(t *testing.T) {
	t.Helper()
	b.process = start(t, b.Command(program("keyhole-basestation"), "serve", "--data", b.dir,
		"--listen", basePort, "--api", "127.0.0.1:7480", "--enrol", "open"))
	testnet.Eventually(t, "keyhole-basestation answers", func() error {
		if !b.process.running() {
			t.Fatalf("keyhole-basestation has ended: %s", b.process.err)
		}
		conn, err := b.dial("tcp", testnet.BaseAddress+basePort)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// station is the part of a board's configuration that names this basestation.
func (b *base) station() string {
	return fmt.Sprintf("[basestation]\naddress = %q\nkey = %q\n", testnet.BaseAddress+basePort, b.key)
}

// newRemoteBoard is a board with a name of its own that attaches to a basestation;
// it is there when this returns.
func newRemoteBoard(t *testing.T, h host, name string, at *base) *board {
	t.Helper()
	b := prepareBoard(t, h, strings.Replace(boardConfig, boardKey, name, 1)+at.station()+"[pairing]\nmodes = [\"button\", \"invite\"]\n")
	b.run(t)
	b.attached(t)
	return b
}

// attached waits until the board is attached, and returns how.
func (b *board) attached(t *testing.T) (s control.Basestation) {
	t.Helper()
	testnet.Eventually(t, "attached", func() error {
		if s = b.status(t).Basestation; s.State != control.BasestationAttached {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	return s
}

// how asks the device how this person reaches it now, with a command of its own.
func (p *person) how(device string) (me api.Me, err error) {
	out, err := p.command("call", device, "GET", "/v1/me").Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err == nil {
		err = json.Unmarshal(out, &me)
	}
	return me, err
}

// A remoteHome is a home with a board and a phone in it, whose owner has paired.
type remoteHome struct {
	*testnet.Home
	board *board
	owner *person // on the phone
}

// newRemoteHome also pairs somebody, over the LAN of the home. The same person may
// have paired elsewhere.
func newRemoteHome(t *testing.T, internet *testnet.Internet, kind testnet.NAT, name string, at *base, owner *person) *remoteHome {
	t.Helper()
	h := &remoteHome{Home: internet.Home(t, kind)}
	h.board = newRemoteBoard(t, host{h.Host}, name, at)
	h.owner = owner.at(host{h.Join(t, 20)})
	address := h.Inside.Addr().Next().String() // .1
	h.owner.pair(t, h.board, strings.TrimSuffix(address, ".1")+".10:7443")
	return h
}
