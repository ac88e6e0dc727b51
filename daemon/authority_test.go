package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testca"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// A company is a device with an authority of openssl's, and the authority. Its clock
// is set, whatever that of the machine is.
type company struct {
	*device
	ca    *testca.CA
	toml  string
	clock atomic.Pointer[acl.Clock] // nil: the system's time, known
}

// newCompany has alice as a viewer, adam as an admin, and nobody else.
func newCompany(t testing.TB, more string) *company {
	t.Helper()
	c := &company{ca: testca.New(t, testca.Options{Subject: "/O=Example/CN=Company"})}
	dir := shortDir(t)
	write(t, filepath.Join(dir, "company.pem"), c.ca.Cert)
	c.toml = text(dir, more+`[[authority]]
name = "company"
ca = "company.pem"
[[authority.user]]
id = "alice@example.net"
role = "viewer"
[[authority.user]]
id = "adam@example.net"
role = "admin"
`)
	c.device = startIn(t, dir, c.toml)
	c.certified.clock = c.now
	return c
}

func (c *company) now() acl.Clock {
	if at := c.clock.Load(); at != nil {
		return *at
	}
	return acl.Clock{Now: time.Now(), Known: true}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *device) reload(t testing.TB, toml string) error {
	t.Helper()
	return d.Reload(parse(t, d.dir, toml))
}

func named(id string) testca.Options { return testca.Options{Ext: testca.Named("email:" + id)} }

// certify gives a key certificates in PEM.
func certify(t testing.TB, k *identity.Key, chain []byte) *identity.Key {
	t.Helper()
	k, err := k.WithChain(testca.DER(chain))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// staff is a new key with a certificate of the authority.
func (c *company) staff(t testing.TB, id string) *identity.Key {
	t.Helper()
	k, csr := newKeyAndRequest(t)
	return certify(t, k, c.ca.Sign(csr, named(id)))
}

func newKeyAndRequest(t testing.TB) (*identity.Key, []byte) {
	t.Helper()
	k := newKey(t)
	csr, err := k.Request(identity.Request{})
	if err != nil {
		t.Fatal(err)
	}
	return k, csr
}

func (p *peer) me() (api.Me, error) {
	var me api.Me
	return me, p.tryCall("GET", "/v1/me", nil, &me)
}

func TestCertifiedUsersEnterByTheirRole(t *testing.T) {
	e := echo(t)
	c := newCompany(t, serviceTOML("web", "http", e.address)+serviceTOML("ssh", "ssh", e.address))
	for _, path := range []session.Path{session.PathTCP, session.PathQUIC} {
		alice := c.dial(t, c.staff(t, "alice@example.net"), path)
		me, err := alice.me()
		if err != nil || me.User != "alice@example.net (authority)" || me.Role != acl.RoleViewer {
			t.Errorf("%s: me: %+v, %v", path, me, err)
		}
		wantEcho(t, alice, "web")
		if _, err := alice.Connect(context.Background(), "ssh", false); err == nil {
			t.Errorf("%s: a viewer came to ssh", path)
		}
		wantCode(t, "roles", alice.tryCall("GET", "/v1/roles", nil, nil), api.CodeForbidden)
		adam := c.dial(t, c.staff(t, "adam@example.net"), path)
		wantEcho(t, adam, "ssh")
		adam.call("GET", "/v1/users", nil, nil)
		var live api.Sessions
		adam.call("GET", "/v1/sessions", nil, &live)
		if !strings.Contains(fmt.Sprint(live), "alice@example.net (authority)") {
			t.Errorf("sessions %+v", live)
		}
		alice.Close()
		adam.Close()
	}
	testnet.Eventually(t, "nobody is here", func() error {
		if g := c.guests.list(); len(g) > 0 {
			return fmt.Errorf("%v", g)
		}
		return nil
	})
}

func wantEcho(t testing.TB, p *peer, service string) {
	t.Helper()
	s, err := p.Connect(context.Background(), service, false)
	if err != nil {
		t.Errorf("%s: %v", service, err)
		return
	}
	defer s.Close()
	if _, err := io.WriteString(s, "hello"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
		t.Error(err)
	}
}

// Whoever is not let in, whatever he showed, is a stranger to the byte.
func TestBadChainsAreNobody(t *testing.T) {
	c := newCompany(t, "")
	other := testca.New(t, testca.Options{Subject: "/O=Example/CN=Company"}) // the same name
	issue := func(ca *testca.CA, o testca.Options) *identity.Key {
		k, csr := newKeyAndRequest(t)
		return certify(t, k, ca.Sign(csr, o))
	}
	alice := testca.Named("email:alice@example.net")
	ask := func(p *peer) string {
		var all strings.Builder
		for _, path := range []string{"/v1/hello", "/v1/me", "/v1/users", "/v1/nothing"} {
			r, body := p.ask("GET", path, nil)
			h := r.Header.Clone()
			h.Del("Date")
			fmt.Fprintln(&all, r.StatusCode, h, string(body))
		}
		return all.String()
	}
	want := ask(c.dial(t, newKey(t), session.PathTCP))
	for name, k := range map[string]*identity.Key{
		"another authority": issue(other, testca.Options{Ext: alice}),
		"no role":           c.staff(t, "bob@example.net"),
		"ended":             issue(c.ca, testca.Options{Ext: alice, From: time.Now().AddDate(0, -2, 0), Until: time.Now().AddDate(0, -1, 0)}),
		"not yet":           issue(c.ca, testca.Options{Ext: alice, From: time.Now().AddDate(0, 0, 2)}),
		"for servers":       issue(c.ca, testca.Options{Ext: strings.ReplaceAll(alice, "clientAuth", "serverAuth")}),
		"two people":        issue(c.ca, testca.Options{Ext: testca.Named("email:alice@example.net,email:bob@example.net")}),
	} {
		for _, path := range []session.Path{session.PathTCP, session.PathQUIC} {
			if got := ask(c.dial(t, k, path)); got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
			}
		}
	}
	refused := c.Status().Refused
	if len(refused) != 1 || refused[0].ID != "bob@example.net" || refused[0].Why != errNoRole.Error() {
		t.Errorf("the owner is shown %+v", refused)
	}
}

// A chain changes nothing for a key on the list: it keeps its role, whatever its
// certificate says, and has that of the certificate beside it.
func TestChainsAndPairedKeys(t *testing.T) {
	c := newCompany(t, "")
	c.owner(t)
	stranger := testca.New(t, testca.Options{})
	bob := c.enter(t, "Bob", acl.RoleViewer)
	csr, err := bob.Request(identity.Request{})
	if err != nil {
		t.Fatal(err)
	}
	for name, chain := range map[string][]byte{
		"a foreign chain": stranger.Sign(csr, named("adam@example.net")),
		"no role":         c.ca.Sign(csr, named("bob@example.net")),
		"ended":           c.ca.Sign(csr, testca.Options{Ext: testca.Named("email:adam@example.net"), From: time.Now().AddDate(0, -2, 0), Until: time.Now().AddDate(0, -1, 0)}),
	} {
		p := c.dial(t, certify(t, bob, chain), session.PathTCP)
		if me, err := p.me(); err != nil || me.User != "Bob" || me.Role != acl.RoleViewer {
			t.Errorf("%s: %+v, %v", name, me, err)
		}
		wantCode(t, name, p.tryCall("GET", "/v1/roles", nil, nil), api.CodeForbidden)
		p.Close()
	}
	p := c.dial(t, certify(t, bob, c.ca.Sign(csr, named("adam@example.net"))), session.PathTCP)
	if me, err := p.me(); err != nil || me.User != "Bob" {
		t.Errorf("%+v, %v", me, err)
	}
	p.call("GET", "/v1/roles", nil, nil) // as adam
}

// curl is the same client, with the file that keyhole keeps.
func TestCurlWithACertificate(t *testing.T) {
	c := newCompany(t, "")
	curl := testnet.Program(t, "curl")
	middle := c.ca.Intermediate(testca.Options{})
	k, csr := newKeyAndRequest(t)
	k = certify(t, k, testca.Chain(middle.Sign(csr, named("alice@example.net")), middle.Cert))
	data, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.dir, "identity.pem")
	write(t, file, data)
	out, err := exec.Command(curl, "-sk", "--cert", file, "https://"+c.address()+"/v1/me").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "alice@example.net") {
		t.Errorf("%v: %s", err, out)
	}
}

// What ends a certified user's right ends what he has open, within a second, direct
// sessions of every kind; and the tickets by which TLS would resume do not bring it
// back.
func TestCertifiedUsersAreCut(t *testing.T) {
	e := pouring(t)
	for name, end := range map[string]func(t *testing.T, c *company, cert []byte){
		"revoked by a list": func(t *testing.T, c *company, cert []byte) {
			c.ca.Revoke(cert)
			write(t, filepath.Join(c.dir, "company.crl"), c.ca.List(time.Now().AddDate(0, 0, 7)))
			if err := c.reload(t, strings.Replace(c.toml, `ca = "company.pem"`, "ca = \"company.pem\"\nrevoked = \"company.crl\"", 1)); err != nil {
				t.Fatal(err)
			}
		},
		"authority removed": func(t *testing.T, c *company, _ []byte) {
			whole, _, _ := strings.Cut(c.toml, "[[authority]]")
			if err := c.reload(t, whole); err != nil {
				t.Fatal(err)
			}
		},
		"role taken": func(t *testing.T, c *company, _ []byte) {
			if err := c.reload(t, strings.Replace(c.toml, `role = "admin"`, `role = "none"`, 1)); err != nil {
				t.Fatal(err)
			}
		},
		"smaller role": func(t *testing.T, c *company, _ []byte) {
			if err := c.reload(t, strings.Replace(c.toml, `role = "admin"`, `role = "guest"`, 1)); err != nil {
				t.Fatal(err)
			}
		},
		"blocked by the owner": func(t *testing.T, c *company, _ []byte) {
			if err := c.store.Block(acl.KindAuthority, "adam@example.net", acl.By{}); err != nil {
				t.Fatal(err)
			}
		},
		"clock jumped": func(t *testing.T, c *company, _ []byte) {
			c.clock.Store(&acl.Clock{Now: time.Now().AddDate(10, 0, 0), Known: true})
			c.certified.tick()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCompany(t, serviceTOML("pour", "tcp", e.address))
			k, csr := newKeyAndRequest(t)
			cert := c.ca.Sign(csr, named("adam@example.net"))
			k = certify(t, k, cert)
			resumption := session.NewResumption()
			dial := func(path session.Path, warm int) *peer {
				client, err := session.Dial(context.Background(), []string{c.address()}, session.DialConfig{
					Key: k, Pin: identity.PinFingerprint(c.Fingerprint()), Paths: []session.Path{path}, WarmConns: warm, Resumption: resumption,
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(client.Close)
				return &peer{Client: client, t: t, key: k}
			}
			peers := []*peer{dial(session.PathTCP, -1), dial(session.PathQUIC, -1), dial(session.PathTCP, 2)}
			var readers []io.Reader
			for i, p := range peers {
				readers = append(readers, open(t, p, i == 2))
				if _, err := io.ReadFull(readers[i], make([]byte, 64<<10)); err != nil {
					t.Fatal(err)
				}
			}
			lasts := make(chan time.Time, len(readers))
			for _, r := range readers {
				go func() { lasts <- drainUntilEnd(r) }()
			}
			end(t, c, cert)
			ended := time.Now()
			for range readers {
				if late := (<-lasts).Sub(ended); late > lastByte {
					t.Errorf("a last byte came %v after the end", late)
				}
			}
			for _, path := range []session.Path{session.PathTCP, session.PathQUIC} {
				p := dial(path, -1) // resumes, if it could
				wantCode(t, "roles", p.tryCall("GET", "/v1/roles", nil, nil), api.CodeForbidden)
				if _, err := p.Connect(context.Background(), "pour", false); err == nil {
					t.Error("a new tunnel was opened")
				}
			}
		})
	}
}

// A session that TLS resumes is looked at like any other: its certificates are those
// of the ticket.
func TestResumedSessionsAreCertified(t *testing.T) {
	c := newCompany(t, "")
	k := c.staff(t, "alice@example.net")
	resumption := session.NewResumption()
	for _, path := range []session.Path{session.PathTCP, session.PathQUIC} {
		resumed := false
		for range 3 {
			client, err := session.Dial(context.Background(), []string{c.address()}, session.DialConfig{
				Key: k, Pin: identity.PinFingerprint(c.Fingerprint()), Paths: []session.Path{path}, WarmConns: -1, Resumption: resumption,
			})
			if err != nil {
				t.Fatal(err)
			}
			p := &peer{Client: client, t: t, key: k}
			if me, err := p.me(); err != nil || me.Role != acl.RoleViewer {
				t.Errorf("%s: %+v, %v", path, me, err)
			}
			for _, s := range c.server.Sessions() {
				resumed = resumed || s.Resumed && s.Path == path
			}
			client.Close()
		}
		if !resumed {
			t.Errorf("%s: no session was resumed: nothing was tried", path)
		}
	}
}

// Nobody comes in by a certificate while the clock is unknown, nor after the floor
// has passed its end, and paired keys do not notice.
func TestCertificatesAndTheClock(t *testing.T) {
	c := newCompany(t, "")
	alice := c.staff(t, "alice@example.net")
	bob := c.enter(t, "Bob", acl.RoleViewer)
	now := time.Now()
	for _, at := range []struct {
		name string
		acl.Clock
		ok bool
	}{
		{"now", acl.Clock{Now: now, Known: true}, true},
		{"unknown", acl.Clock{Now: now}, false},
		{"1970", acl.Clock{Now: time.Unix(0, 0)}, false},
		{"1970, and believed", acl.Clock{Now: time.Unix(0, 0), Known: true}, false},
		{"back ten years", acl.Clock{Now: now.AddDate(-10, 0, 0), Known: true}, false},
		{"on ten years", acl.Clock{Now: now.AddDate(10, 0, 0), Known: true}, false},
		{"floor before", acl.Clock{Now: now, Known: true, Floor: now.AddDate(0, 0, -1)}, true},
		{"floor after its end", acl.Clock{Now: now, Known: true, Floor: now.AddDate(1, 0, 0)}, false},
		{"now again", acl.Clock{Now: now, Known: true}, true},
	} {
		c.clock.Store(&at.Clock)
		p := c.dial(t, alice, session.PathTCP)
		if _, err := p.me(); (err == nil) != at.ok {
			t.Errorf("%s: %v, want %v", at.name, err, at.ok)
		}
		p.Close()
		q := c.dial(t, bob, session.PathTCP)
		if _, err := q.me(); err != nil {
			t.Errorf("%s: a paired key: %v", at.name, err)
		}
		q.Close()
	}
}

// A file that is wrong refuses a reload and changes nothing; at a start it costs its
// authority and nothing else. An old revocation list is wrong, over restarts too.
func TestAuthorityFiles(t *testing.T) {
	c := newCompany(t, "")
	alice := c.staff(t, "alice@example.net")
	wantIn := func(what string, d *device, k *identity.Key, in bool) {
		t.Helper()
		p := d.dial(t, k, session.PathTCP)
		defer p.Close()
		if _, err := p.me(); (err == nil) != in {
			t.Errorf("%s: %v, want in: %v", what, err, in)
		}
	}
	path := filepath.Join(c.dir, "company.pem")
	write(t, path, []byte("nonsense"))
	err := c.reload(t, c.toml)
	if err == nil || !strings.Contains(err.Error(), "company.pem: no certificate in PEM") || !strings.Contains(err.Error(), "keyholed.toml:") {
		t.Errorf("reload with a bad file: %v", err)
	}
	wantIn("after a reload that was refused", c.device, alice, true)
	write(t, path, c.ca.Cert)

	listed := strings.Replace(c.toml, `ca = "company.pem"`, "ca = \"company.pem\"\nrevoked = \"company.crl\"", 1)
	list := filepath.Join(c.dir, "company.crl")
	first := c.ca.List(time.Now().AddDate(0, 0, 7))
	second := c.ca.List(time.Now().AddDate(0, 0, 7))
	write(t, list, second)
	if err := c.reload(t, listed); err != nil {
		t.Fatal(err)
	}
	wantIn("with a list", c.device, alice, true)
	write(t, list, first)
	if err := c.reload(t, listed); err == nil || !strings.Contains(err.Error(), "an old copy") {
		t.Errorf("reload with the list of before: %v", err)
	}
	if err := CheckFiles(parse(t, c.dir, listed)); err == nil || !strings.Contains(err.Error(), "authority.revoked") {
		t.Errorf("check of the list of before: %v", err)
	}
	bob := c.enter(t, "Bob", acl.RoleViewer)
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	again := startIn(t, c.dir, listed)
	again.certified.clock = c.now
	wantIn("after a restart with the list of before", again, alice, false)
	wantIn("a paired key", again, bob, true)
	if w := strings.Join(again.Status().Warnings, "\n"); !strings.Contains(w, "an old copy") {
		t.Errorf("the status warns of %q", w)
	}
	write(t, list, c.ca.List(time.Now().AddDate(0, 0, 1)))
	if err := again.reload(t, listed); err != nil {
		t.Fatal(err)
	}
	wantIn("with the next list", again, alice, true)
	if w := strings.Join(again.Status().Warnings, "\n"); !strings.Contains(w, "revocation list of") || !strings.Contains(w, "ends on") {
		t.Errorf("the status warns of %q", w)
	}
	status, err := json.Marshal(again.Status().Authorities)
	if err != nil || !strings.Contains(string(status), `"state":"in force"`) {
		t.Errorf("status %s, %v", status, err)
	}
}

// Strangers with chains are held to the places of strangers, each chain is looked at
// once a session, and a certified user comes in beside them.
func TestManyBadChains(t *testing.T) {
	c := newCompany(t, "")
	other := testca.New(t, testca.Options{Subject: "/O=Example/CN=Company"})
	k, csr := newKeyAndRequest(t)
	bad := certify(t, k, other.Sign(csr, named("adam@example.net")))
	for range 100 { // three times as many as there are places
		if p, err := c.tryDial(t, bad, session.PathTCP, -1); err == nil {
			_, _ = p.me()
		}
	}
	if n := len(c.server.Sessions()); n > 32 {
		t.Errorf("%d sessions of strangers", n)
	}
	p := c.dial(t, c.staff(t, "alice@example.net"), session.PathTCP)
	if _, err := p.me(); err != nil {
		t.Error(err)
	}
	if n := len(c.guests.list()); n != 1 {
		t.Errorf("%d guests", n)
	}
}
