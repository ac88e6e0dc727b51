package remote

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testca"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// A user whom the company's authority certifies comes from elsewhere to a device that
// never saw his key, by each way there is; without a certificate he is introduced and
// is a stranger.
func TestCertifiedFromElsewhere(t *testing.T) {
	ca := testca.New(t, testca.Options{})
	dir, err := os.MkdirTemp("", "kh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "company.pem"), ca.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	b := startBase(t)
	d := startWith(t, b, dir, echo(t), "[[authority]]\nname = \"company\"\nca = \"company.pem\"\nrole = \"admin\"\n")
	d.waitAttached(t)
	testnet.Until(t, "the clock", func() bool { return d.Status().Clock.State == "known" }) // the basestation told it

	home := newHome(t)
	come := func(o client.DialOptions) *client.Conn {
		t.Helper()
		o.Find, o.Log = -1, testLog(t)
		conn, err := home.DialStranger(t.Context(), d.ID(), b.asClientsKnowIt(), nil, o)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	conn := come(client.DialOptions{})
	if _, err := conn.Me(t.Context()); !api.IsCode(err, api.CodeForbidden) {
		t.Errorf("without a certificate: %v", err)
	}
	conn.Close()
	csr, err := home.CertificateRequest(identity.Request{Email: "alice@example.net"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := home.InstallCertificate(ca.Sign(csr, testca.Options{Ext: testca.Named("email:alice@example.net")})); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		o   client.DialOptions
		via session.Via
	}{
		{client.DialOptions{Paths: []session.Path{session.PathQUIC}}, session.ViaPunched},
		{client.DialOptions{RelayOnly: true, Tunnels: true}, session.ViaRelay},
	} {
		conn := come(one.o)
		me, err := conn.Me(t.Context())
		if err != nil || me.User != "alice@example.net (authority)" || me.Role != "admin" || conn.Via() != one.via {
			t.Errorf("%s: %+v, %v, by %s", one.via, me, err, conn.Via())
		}
		s, err := conn.Connect(t.Context(), "echo", "tcp")
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, s, "from elsewhere")
		_ = s.Close()
		conn.Close()
	}

	// The owner's no ends what he has open, and he is not let in again.
	conn = come(client.DialOptions{RelayOnly: true})
	if _, err := conn.Me(t.Context()); err != nil {
		t.Fatal(err)
	}
	local := control.NewClient(filepath.Join(d.dir, "s"))
	defer local.Close()
	if err := local.Post(t.Context(), control.RevokeRoute, control.Revoke{Who: "alice@example.net"}, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-conn.Done():
	case <-time.After(20 * time.Second):
		t.Error("the session goes on")
	}
	conn.Close()
	conn = come(client.DialOptions{})
	defer conn.Close()
	if _, err := conn.Me(t.Context()); !api.IsCode(err, api.CodeForbidden) {
		t.Errorf("revoked: %v", err)
	}
}
