package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/central"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// list signs a list of people for a device.
func (v vendor) list(t testing.TB, d identity.ID, version uint64, people ...central.Person) []byte {
	t.Helper()
	token, err := central.List{Device: d, Version: version, People: people}.Sign(v)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(token)
}

func person(name, role string, keys ...*identity.Key) central.Person {
	p := central.Person{Name: name, Role: role}
	for _, k := range keys {
		p.Keys = append(p.Keys, k.Fingerprint())
	}
	return p
}

// A directory is the vendor's HTTPS server, with switches for its bad habits.
type directory struct {
	*httptest.Server
	roots string // PEM file of its certificate

	mu    sync.Mutex
	serve http.HandlerFunc
	asked []*http.Request
}

func newDirectory(t *testing.T) *directory {
	s := &directory{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r)
		serve := s.serve
		s.mu.Unlock()
		serve(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	s.roots = filepath.Join(t.TempDir(), "roots.pem")
	der := s.Certificate().Raw
	text := "-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END CERTIFICATE-----\n"
	if err := os.WriteFile(s.roots, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// answers has every question answered with body, and an ETag that follows from it.
func (s *directory) answers(body []byte) {
	tag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(body)))
	s.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(body)
	})
}

func (s *directory) does(serve http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve = serve
}

func (s *directory) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// toml is the configuration of a device that asks a server of the vendor.
func (v vendor) listTOML(t testing.TB, url, roots string) string {
	return fmt.Sprintf("[pairing]\nmodes = [\"button\", \"central\"]\n%slist = %q\nroots = %q\npoll = \"24h\"\n", v.toml(t, `"viewer", "admin"`), url, roots)
}

// polled has the device ask now, and waits for what became of it.
func (d *device) polled(t *testing.T) error {
	t.Helper()
	before := d.list.now().asked
	d.list.kick()
	testnet.Until(t, "the list is asked for", func() bool { return d.list.now().asked.After(before) })
	return d.list.now().err
}

func (d *device) central() (names []string) {
	for _, u := range d.store.Users() {
		if u.Central {
			names = append(names, u.Name+" "+u.Role)
		}
	}
	return names
}

// withList is a device that knows the time and asks a directory.
func withList(t *testing.T) (*device, vendor, *directory, *hub) {
	v, s := newVendor(t), newDirectory(t)
	s.answers(nil)
	d, h := attached(t, v.listTOML(t, s.URL+"/{id}", s.roots))
	return d, v, s, h
}

// TestListLetsIn: people of the list enter, are shown as what they are, and are out
// when the next version does not name them.
func TestListLetsIn(t *testing.T) {
	d, v, s, _ := withList(t)
	owner := d.owner(t)
	bob, carol := newKey(t), newKey(t)
	s.answers(v.list(t, d.ID(), 3, person("Bob", "viewer", bob), person("Carol", "admin", carol), person("Mallory", "owner", newKey(t)), person("Guest", "guest", newKey(t))))
	if err := d.polled(t); err != nil {
		t.Fatal(err)
	}
	if got := d.central(); !slices.Equal(got, []string{"Bob viewer", "Carol admin"}) {
		t.Errorf("users of the list: %v", got)
	}
	if s.asked[0].URL.Path != "/"+string(d.ID()) {
		t.Errorf("asked for %s", s.asked[0].URL.Path)
	}
	var users api.Users
	owner.call("GET", "/v1/users", nil, &users)
	if !slices.ContainsFunc(users.Users, func(u api.User) bool { return u.Name == "Bob" && u.Central }) {
		t.Errorf("the owner does not see where Bob comes from: %+v", users)
	}
	guest := d.dial(t, bob, session.PathTCP)
	var me api.Me
	if guest.call("GET", "/v1/me", nil, &me); me.User != "Bob" || me.Role != "viewer" {
		t.Errorf("Bob is %+v", me)
	}
	err := owner.tryCall("PATCH", "/v1/users/Bob", map[string]string{"role": "guest"}, nil)
	wantCode(t, "the owner changes an entry of the list", err, api.CodeConflict)
	if err := d.polled(t); err != nil || s.asked[1].Header.Get("If-None-Match") == "" {
		t.Errorf("the second time: %v, headers %v", err, s.asked[1].Header)
	}
	s.answers(v.list(t, d.ID(), 4, person("Carol", "admin", carol)))
	if err := d.polled(t); err != nil {
		t.Fatal(err)
	}
	gone(t, guest.Client)
	if got := d.central(); !slices.Equal(got, []string{"Carol admin"}) {
		t.Errorf("users of the list: %v", got)
	}
}

// TestListOwnerWins: whom the owner revoked stays out of later versions, and the
// vendor's word as a whole can be refused.
func TestListOwnerWins(t *testing.T) {
	d, v, s, _ := withList(t)
	owner := d.owner(t)
	bob, carol := newKey(t), newKey(t)
	people := []central.Person{person("Bob", "viewer", bob), person("Carol", "viewer", carol)}
	s.answers(v.list(t, d.ID(), 1, people...))
	if err := d.polled(t); err != nil {
		t.Fatal(err)
	}
	if err := owner.tryCall("DELETE", "/v1/users/Bob", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.polled(t); err != nil { // 304
		t.Fatal(err)
	}
	s.answers(v.list(t, d.ID(), 2, people...))
	if err := d.polled(t); err != nil || !slices.Equal(d.central(), []string{"Carol viewer"}) {
		t.Errorf("after the next version: %v, %v", d.central(), err)
	}
	guest := d.dial(t, carol, session.PathTCP)
	var set api.Settings
	owner.call("PATCH", "/v1/settings", api.SettingsPatch{Central: new(false)}, &set)
	if set.Central.On || len(d.central()) != 0 {
		t.Errorf("refused: %+v, %v", set, d.central())
	}
	gone(t, guest.Client)
	if err := d.polled(t); !errors.Is(err, errListOff) || len(d.central()) != 0 {
		t.Errorf("asked all the same: %v, %v", err, d.central())
	}
	owner.call("PATCH", "/v1/settings", api.SettingsPatch{Central: new(true)}, &set)
	if err := d.polled(t); err != nil || !slices.Equal(d.central(), []string{"Carol viewer"}) {
		t.Errorf("taken again: %v, %v", d.central(), err)
	}
}

// TestListRefused: whatever the server sends that is not a newer list of the vendor for
// this device changes nothing.
func TestListRefused(t *testing.T) {
	d, v, s, _ := withList(t)
	bob := newKey(t)
	good := v.list(t, d.ID(), 7, person("Bob", "viewer", bob))
	s.answers(good)
	if err := d.polled(t); err != nil {
		t.Fatal(err)
	}
	mallory := person("Mallory", "admin", newKey(t))
	sends := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
	}
	for name, row := range map[string]struct {
		serve http.HandlerFunc
		want  error // nil: any
	}{
		"an older version":        {sends(v.list(t, d.ID(), 6, mallory)), errOldList},
		"the same, another list":  {sends(v.list(t, d.ID(), 7, mallory)), errTwoLists},
		"signed by somebody else": {sends(newVendor(t).list(t, d.ID(), 8, mallory)), central.ErrSignature},
		"of another device":       {sends(v.list(t, newKey(t).ID(), 8, mallory)), errOtherList},
		"a grant":                 {sends(v.grant(t, central.Grant{Device: d.ID(), Client: bob.Fingerprint(), ID: "x", Subject: "x", Roles: []string{"admin"}, Expires: time.Now().Add(time.Minute), Life: time.Hour})), central.ErrMalformed},
		"truncated":               {sends(good[:len(good)-5]), nil},
		"empty":                   {sends(nil), central.ErrMalformed},
		"huge":                    {func(w http.ResponseWriter, _ *http.Request) { endless(w) }, nil},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			_, _ = w.Write(good[:len(good)/2])
		}, io.ErrUnexpectedEOF},
		"an error": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusInternalServerError) }, nil},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://192.0.2.1/", http.StatusFound)
		}, nil},
		"many headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 32<<10))
			_, _ = w.Write(v.list(t, d.ID(), 9, mallory))
		}, nil},
	} {
		s.does(row.serve)
		if err := d.polled(t); err == nil || row.want != nil && !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
		if got := d.central(); !slices.Equal(got, []string{"Bob viewer"}) {
			t.Fatalf("%s: users of the list are %v", name, got)
		}
	}
	if !slices.ContainsFunc(auditOf(t, d), func(e acl.Entry) bool { return e.What == acl.WhatRolledBack }) {
		t.Error("the audit log does not tell of the rollback")
	}
	s.answers(v.list(t, d.ID(), 8, person("Bob", "admin", bob)))
	if err := d.polled(t); err != nil || !slices.Equal(d.central(), []string{"Bob admin"}) {
		t.Errorf("a good one after all that: %v, %v", d.central(), err)
	}
	d.list.from.url = "https://" + closedPort(t) + "/"
	if err := d.polled(t); err == nil || !slices.Equal(d.central(), []string{"Bob admin"}) {
		t.Errorf("the server is down: %v, %v", d.central(), err)
	}
}

func endless(w http.ResponseWriter) {
	block := []byte(strings.Repeat("A", 64<<10))
	for range 64 << 20 / len(block) {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func auditOf(t *testing.T, d *device) []acl.Entry {
	t.Helper()
	page, err := d.store.Audit(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// TestListSlowServer: a server that does not answer, and a device that stops, do not
// wait for each other.
func TestListSlowServer(t *testing.T) {
	d, _, s, _ := withList(t)
	asked := make(chan struct{}, 1)
	s.does(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("A"))
		_ = http.NewResponseController(w).Flush()
		asked <- struct{}{}
		<-r.Context().Done()
	})
	d.list.kick()
	<-asked
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if fetchTimeout > time.Minute || connectTimeout >= fetchTimeout {
		t.Errorf("a server may hold a poll up for %v", fetchTimeout)
	}
}

// TestListRollback: an older list does not come back by a restart, by an old copy of
// either directory, by a factory reset, nor by the owner's switch.
func TestListRollback(t *testing.T) {
	v, s, keys := newVendor(t), newDirectory(t), newHubKeys(t)
	startHub(t, keys, 1, 0)
	s.answers(nil)
	dir := shortDir(t)
	toml := text(dir, keys.toml()+v.listTOML(t, s.URL+"/{id}", s.roots))
	start := func() *device {
		d := startIn(t, dir, toml)
		d.waitAttached(t)
		return d
	}
	stop := func(d *device) {
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	}
	d := start()
	fired := newKey(t)
	old := v.list(t, d.ID(), 1, person("Fired", "admin", fired))
	s.answers(old)
	if err := d.polled(t); err != nil {
		t.Fatal(err)
	}
	stop(d)
	before := t.TempDir()
	for _, part := range []string{"state", "identity"} {
		copyDir(t, filepath.Join(dir, part), filepath.Join(before, part))
	}
	d = start()
	s.answers(v.list(t, d.ID(), 2))
	if err := d.polled(t); err != nil || len(d.central()) != 0 {
		t.Fatalf("version 2: %v, %v", d.central(), err)
	}
	s.answers(old)
	refused := func(what string, d *device, left int) {
		t.Helper()
		if err := d.polled(t); !errors.Is(err, errOldList) || len(d.central()) != left {
			t.Errorf("%s: %v, users of the list %v", what, err, d.central())
		}
	}
	refused("at once", d, 0)
	stop(d)
	d = start()
	refused("after a restart", d, 0)
	stop(d)
	now := t.TempDir()
	for _, part := range []string{"state", "identity"} {
		copyDir(t, filepath.Join(dir, part), filepath.Join(now, part))
	}
	// The state of before beside the identity of now: who was fired is on that list, and
	// the list of then brings nobody and keeps nobody.
	putBack := func(from, part string) {
		if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
		copyDir(t, filepath.Join(from, part), filepath.Join(dir, part))
	}
	putBack(before, "state")
	d = start()
	refused("with an old state", d, 1)
	s.answers(v.list(t, d.ID(), 2))
	if err := d.polled(t); err != nil || len(d.central()) != 0 {
		t.Errorf("the list of now on an old state: %v, %v", d.central(), err)
	}
	s.answers(old)
	stop(d)
	putBack(now, "state")
	putBack(before, "identity")
	d = start()
	refused("with an old identity directory", d, 0)
	if err := os.WriteFile(filepath.Join(dir, "identity", listFloorName), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	stop(d)
	d = start()
	refused("with one of the files damaged", d, 0)
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return errors.Join(err, os.Chmod(path, 0o700))
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestListStoreFails: a version whose number cannot be written down does not count, and
// is taken when it can.
func TestListStoreFails(t *testing.T) {
	d, v, s, _ := withList(t)
	bob := newKey(t)
	s.answers(v.list(t, d.ID(), 1, person("Bob", "viewer", bob)))
	paths := d.list.floor.paths
	d.list.floor.paths = []string{paths[0], filepath.Join(t.TempDir(), "no", "such", "directory")}
	if err := d.polled(t); !errors.Is(err, errListFloors) || len(d.central()) != 0 {
		t.Errorf("%v, %v", d.central(), err)
	}
	d.list.floor.paths = paths
	if err := d.polled(t); err != nil || len(d.central()) != 1 {
		t.Errorf("when it can: %v, %v", d.central(), err)
	}
}

// TestListClock: without a clock no list is fetched, since no certificate can be judged;
// the one that is here stays in force, but for entries with an end.
func TestListClock(t *testing.T) {
	d, v, s, _ := withList(t)
	bob, carol := newKey(t), newKey(t)
	ends := person("Carol", "viewer", carol)
	ends.Until = time.Now().Add(time.Hour)
	s.answers(v.list(t, d.ID(), 1, person("Bob", "viewer", bob), ends))
	if err := d.polled(t); err != nil {
		t.Fatal(err)
	}
	if u, _ := d.store.User("Carol"); u.Until.IsZero() {
		t.Errorf("Carol has no end: %+v", u)
	}
	d.list.clock = func() acl.Clock { return acl.Clock{Now: time.Unix(0, 0)} }
	before := s.questions()
	if err := d.polled(t); !errors.Is(err, errListClock) || s.questions() != before || len(d.central()) != 2 {
		t.Errorf("%v, %v after %d questions more", err, d.central(), s.questions()-before)
	}
}

func TestEarlier(t *testing.T) {
	a, b := time.Unix(5, 0), time.Unix(9, 0)
	for _, row := range [][3]time.Time{{{}, {}, {}}, {a, {}, a}, {{}, a, a}, {a, b, a}, {b, a, a}} {
		if got := earlier(row[0], row[1]); !got.Equal(row[2]) {
			t.Errorf("of %v and %v: %v", row[0], row[1], got)
		}
	}
}

// TestListJitter: a fleet does not ask in step, nor all at once after a power cut.
func TestListJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 1000 {
		w := jittered(time.Hour)
		if w < 48*time.Minute || w > 72*time.Minute {
			t.Fatalf("%v of an hour", w)
		}
		seen[w] = true
	}
	if len(seen) < 900 {
		t.Errorf("%d different waits of 1,000", len(seen))
	}
}

// TestListCertificate: the server's certificate is judged by the device's clock, and
// against the authorities that were configured. TestListOfNginx has another authority.
func TestListCertificate(t *testing.T) {
	d, v, s, _ := withList(t)
	s.answers(v.list(t, d.ID(), 1, person("Bob", "viewer", newKey(t))))
	late, err := newListSource(s.URL, d.ID(), s.roots, func() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) })
	if err != nil {
		t.Fatal(err)
	}
	if data, err := late.fetch(t.Context()); err == nil {
		t.Errorf("a certificate that is over: %d bytes", len(data))
	}
	if err := os.WriteFile(s.roots, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newListSource(s.URL, d.ID(), s.roots, time.Now); err == nil {
		t.Error("a file without certificates is taken")
	}
}

// TestListOfNginx: a real web server with a certificate that openssl made.
func TestListOfNginx(t *testing.T) {
	nginx, openssl := testnet.Program(t, "nginx"), testnet.Program(t, "openssl")
	dir := shortDir(t)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := func(name string) {
		run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN="+name, "-days", "2", "-keyout", file(name+".key"), "-out", file(name+".pem"))
	}
	ca("ca")
	ca("other")
	run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=people.example.net", "-keyout", file("web.key"), "-out", file("web.csr"))
	if err := os.WriteFile(file("san"), []byte("subjectAltName=IP:127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("x509", "-req", "-in", file("web.csr"), "-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", file("san"), "-out", file("web.pem"))
	if err := os.Mkdir(file("www"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	address := closedPort(t)
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
 server { listen %[2]s ssl; ssl_certificate %[1]s/web.pem; ssl_certificate_key %[1]s/web.key; root %[1]s/www; default_type application/jose; gzip on; gzip_types application/jose; } }`, dir, address)
	if err := os.WriteFile(file("nginx.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, nginx, "-p", dir, "-c", file("nginx.conf"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	v := newVendor(t)
	d, _ := attached(t, v.listTOML(t, "https://"+address+"/{id}.jose", file("ca.pem")))
	bob := newKey(t)
	if err := os.WriteFile(filepath.Join(file("www"), string(d.ID())+".jose"), append(v.list(t, d.ID(), 1, person("Bob", "viewer", bob)), '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, "the list is had", func() error { return d.polled(t) })
	if got := d.central(); !slices.Equal(got, []string{"Bob viewer"}) {
		t.Errorf("users of the list: %v", got)
	}
	if _, err := d.list.from.fetch(t.Context()); !errors.Is(err, errUnchanged) {
		t.Errorf("asked again: %v", err)
	}
	stranger, err := newListSource("https://"+address+"/{id}.jose", d.ID(), file("other.pem"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with another authority: %v", err)
	}
}
