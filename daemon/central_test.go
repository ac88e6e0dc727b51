package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/central"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// A vendor signs grants and lists.
type vendor struct{ *ecdsa.PrivateKey }

func newVendor(t testing.TB) vendor {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return vendor{key}
}

func (v vendor) spki(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&v.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// toml is the section of a device that believes the vendor.
func (v vendor) toml(t testing.TB, roles string) string {
	return fmt.Sprintf("[central]\nkey = %q\nroles = [%s]\n", base64.StdEncoding.EncodeToString(v.spki(t)), roles)
}

func (v vendor) grant(t testing.TB, g central.Grant) []byte {
	t.Helper()
	token, err := g.Sign(v)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(token)
}

// grantFor is what a well-meaning vendor would sign for a client at a hub.
func (h *hub) grantFor(d *device, k *identity.Key) central.Grant {
	var hash [32]byte
	h.do(func(time.Duration) { hash = h.device.Hash })
	return central.Grant{
		Device: d.ID(), Client: k.Fingerprint(), Attach: hash, ID: rand.Text(), Subject: "x@example.net", Roles: []string{"viewer"},
		Expires: time.Now().Add(time.Minute), Life: time.Hour,
	}
}

// introduceWith is introduce with a grant beside it.
func (h *hub) introduceWith(d *device, k *identity.Key, grant []byte) visitor {
	h.t.Helper()
	h.next++
	v := visitor{key: k, request: h.next}
	_, _ = rand.Read(v.hash[:])
	in := question(h.t, d.ID(), k, v.hash)
	m := attach.NewIntroduction(v.request, v.hash, &in, netip.AddrPort{})
	m.Grant = grant
	h.tell(attach.KindIntroduction, m)
	for v.answer.Request != v.request {
		v.answer = attach.Answer{}
		h.hears(attach.KindAnswer, &v.answer)
	}
	return v
}

// desk is a grantDesk whose surroundings a test can change.
type grantWorld struct {
	*grantDesk
	vendor   vendor
	client   identity.Fingerprint
	hash     [32]byte
	attached bool
	now      acl.Clock
}

func newGrantWorld(t testing.TB) *grantWorld {
	w := &grantWorld{vendor: newVendor(t), client: fingerprint(7), hash: [32]byte{1}, attached: true, now: acl.Clock{Now: time.Unix(1_790_000_000, 0), Known: true}}
	w.grantDesk = newGrantDesk(central.Keys{&w.vendor.PublicKey}, []string{"viewer", "guest"}, newKey(t).ID(),
		func() ([32]byte, bool) { return w.hash, w.attached }, func() acl.Clock { return w.now })
	return w
}

func (w *grantWorld) good() central.Grant {
	return central.Grant{
		Device: w.device, Client: w.client, Attach: w.hash, ID: rand.Text(), Subject: "x@example.net", Roles: []string{"viewer"},
		Expires: w.now.Now.Add(time.Minute), Life: time.Hour,
	}
}

// TestGrantRefused: each thing that a grant can be wrong in is a no of its own.
func TestGrantRefused(t *testing.T) {
	other := newVendor(t)
	for name, row := range map[string]struct {
		change func(w *grantWorld, g *central.Grant)
		want   error
	}{
		"nothing wrong":            {func(*grantWorld, *central.Grant) {}, nil},
		"another device":           {func(w *grantWorld, g *central.Grant) { g.Device = newKey(t).ID() }, errOtherDevice},
		"another client":           {func(w *grantWorld, g *central.Grant) { g.Client = fingerprint(8) }, errOtherClient},
		"another attach":           {func(w *grantWorld, g *central.Grant) { g.Attach = [32]byte{2} }, errOtherAttach},
		"not attached":             {func(w *grantWorld, g *central.Grant) { w.attached = false }, errOtherAttach},
		"over":                     {func(w *grantWorld, g *central.Grant) { g.Expires = w.now.Now }, errGrantLate},
		"clock unknown":            {func(w *grantWorld, g *central.Grant) { w.now.Known = false }, errGrantClock},
		"clock in 1970":            {func(w *grantWorld, g *central.Grant) { w.now = acl.Clock{Now: time.Unix(5, 0)} }, errGrantClock},
		"floor beyond its end":     {func(w *grantWorld, g *central.Grant) { w.now.Floor, w.now.Known = g.Expires, false }, errGrantLate},
		"clock went back":          {func(w *grantWorld, g *central.Grant) { w.now.Floor = g.Expires.Add(time.Hour) }, errGrantLate},
		"owner":                    {func(w *grantWorld, g *central.Grant) { g.Roles = []string{"owner"} }, errGrantRoles},
		"a role not for him":       {func(w *grantWorld, g *central.Grant) { g.Roles = []string{"admin"} }, errGrantRoles},
		"switched off":             {func(w *grantWorld, g *central.Grant) { w.switchOff(true) }, errGrantsOff},
		"signed by another":        {func(w *grantWorld, g *central.Grant) { w.vendor = other }, central.ErrSignature},
		"a list in place of it":    {nil, central.ErrMalformed},
		"remembered too many":      {func(w *grantWorld, g *central.Grant) { w.fill() }, errManyGrants},
		"some of its roles only":   {func(w *grantWorld, g *central.Grant) { g.Roles = []string{"owner", "admin", "guest"} }, nil},
		"in the last second of it": {func(w *grantWorld, g *central.Grant) { w.now.Now = g.Expires.Add(-time.Second) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newGrantWorld(t)
			g := w.good()
			var token []byte
			if row.change == nil {
				list, err := central.List{Device: w.device, Version: 1}.Sign(w.vendor)
				if err != nil {
					t.Fatal(err)
				}
				token = []byte(list)
			} else {
				row.change(w, &g)
				token = w.vendor.grant(t, g)
			}
			got, err := w.use(token, w.client)
			if !errors.Is(err, row.want) {
				t.Fatalf("got %+v, %v; want %v", got, err, row.want)
			}
			if slices.Contains(got.Roles, acl.RoleOwner) || slices.Contains(got.Roles, "admin") {
				t.Errorf("roles %v", got.Roles)
			}
		})
	}
	var off *grantDesk
	if _, err := off.use([]byte("x"), fingerprint(7)); !errors.Is(err, errNoGrant) {
		t.Errorf("without [central]: %v", err)
	}
}

// fill makes the desk remember as many grants as it can.
func (w *grantWorld) fill() {
	w.of = w.hash
	for i := range maxGrants {
		w.used[fmt.Sprint(i)] = true
	}
}

// TestGrantReplay: a grant counts once, also when it is signed anew in another
// writing, and after a new attach the hash keeps it out.
func TestGrantReplay(t *testing.T) {
	w := newGrantWorld(t)
	g := w.good()
	token := w.vendor.grant(t, g)
	for range 3 {
		if _, err := w.look(token, w.client); err != nil {
			t.Fatalf("looking uses it up: %v", err)
		}
	}
	if _, err := w.use(token, w.client); err != nil {
		t.Fatal(err)
	}
	if _, err := w.use(token, w.client); !errors.Is(err, errGrantUsed) {
		t.Errorf("a second time: %v", err)
	}
	if again := w.vendor.grant(t, g); string(again) == string(token) {
		t.Error("two signatures are alike")
	} else if _, err := w.use(again, w.client); !errors.Is(err, errGrantUsed) {
		t.Errorf("with another signature: %v", err)
	}
	w.hash = [32]byte{3}
	if _, err := w.use(token, w.client); !errors.Is(err, errOtherAttach) {
		t.Errorf("after a new attach: %v", err)
	}
	if _, err := w.use(w.vendor.grant(t, w.good()), w.client); err != nil {
		t.Errorf("a new one, after a new attach: %v", err)
	}
	if len(w.used) != 1 {
		t.Errorf("%d are remembered, want those of this attach", len(w.used))
	}
}

// TestGrantLetsIn: who is on no list enters by a grant from beyond the network, as
// what it says, and everybody who may see it sees him.
func TestGrantLetsIn(t *testing.T) {
	v, service := newVendor(t), echo(t)
	d, h := attached(t, v.toml(t, `"viewer"`)+serviceTOML("web", "http", service.address))
	owner := d.owner(t)
	k := newKey(t)
	if got := h.introduceWith(d, k, nil); got.answer.Verdict == attach.VerdictYes {
		t.Fatal("a stranger without a grant was let in")
	}
	visit := h.introduceWith(d, k, v.grant(t, h.grantFor(d, k)))
	if visit.answer.Verdict != attach.VerdictYes {
		t.Fatal("refused")
	}
	c, err := h.relayed(d, visit)
	if err != nil {
		t.Fatal(err)
	}
	guest := &peer{Client: c, t: t}
	var me api.Me
	guest.call("GET", "/v1/me", nil, &me)
	if me.User != "x@example.net (central)" || me.Role != "viewer" {
		t.Errorf("he is %+v", me)
	}
	tunnel, err := c.Connect(t.Context(), "web", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tunnel.Close() }()
	if response, _ := guest.ask("GET", "/v1/audit", nil); response.StatusCode != 403 {
		t.Errorf("a viewer reads the audit log: %d", response.StatusCode)
	}
	var live api.Sessions
	owner.call("GET", "/v1/sessions", nil, &live)
	if !slices.ContainsFunc(live.Sessions, func(s api.Session) bool { return s.User == "x@example.net (central)" }) {
		t.Errorf("the owner does not see him: %+v", live.Sessions)
	}
	if d.store.Known(k.Fingerprint()) {
		t.Error("he is on the list")
	}
}

// gone waits until a session is cut.
func gone(t *testing.T, c *session.Client) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the session was not cut")
	}
}

// TestGrantEnds: when the life of a grant is over its session is cut; a new grant
// goes on, a used one does not.
func TestGrantEnds(t *testing.T) {
	v := newVendor(t)
	d, h := attached(t, v.toml(t, `"viewer"`))
	k := newKey(t)
	short := h.grantFor(d, k)
	short.Life = time.Second
	token := v.grant(t, short)
	c, err := h.relayed(d, h.introduceWith(d, k, token))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, c)
	if again := h.introduceWith(d, k, token); again.answer.Verdict == attach.VerdictYes {
		t.Error("a used grant let him in again")
	}
	visit := h.introduceWith(d, k, v.grant(t, h.grantFor(d, k)))
	if visit.answer.Verdict != attach.VerdictYes {
		t.Fatal("a new grant does not let him in")
	}
	if c, err = h.relayed(d, visit); err != nil {
		t.Fatal(err)
	}
	ends := func() time.Time { return d.guests.list()[0].until }
	first := ends()
	if again := h.introduceWith(d, k, v.grant(t, h.grantFor(d, k))); again.answer.Verdict != attach.VerdictYes {
		t.Error("a guest with another grant is refused")
	}
	if !ends().After(first) || len(d.guests.list()) != 1 {
		t.Errorf("the grant was not renewed: until %v, then %v, %d guests", first, ends(), len(d.guests.list()))
	}
	if _, _, err := (&peer{Client: c, t: t}).tryAsk("GET", "/v1/me", nil); err != nil {
		t.Errorf("the session did not go on: %v", err)
	}
}

// TestHostileGrants: what a basestation or a client can make of grants that it has
// seen, without the vendor's key, lets nobody in.
func TestHostileGrants(t *testing.T) {
	v := newVendor(t)
	d, h := attached(t, v.toml(t, `"viewer"`))
	other, _ := attached(t, v.toml(t, `"viewer"`))
	k, thief := newKey(t), newKey(t)
	refused := func(what string, k *identity.Key, grant []byte) {
		t.Helper()
		if got := h.introduceWith(d, k, grant); got.answer.Verdict == attach.VerdictYes {
			t.Errorf("%s: let in", what)
		}
	}
	good := v.grant(t, h.grantFor(d, k))
	refused("swapped to another client", thief, good)
	elsewhere := h.grantFor(d, k)
	elsewhere.Device = other.ID()
	refused("of another device", k, v.grant(t, elsewhere))
	refused("forged by the basestation", k, newVendor(t).grant(t, h.grantFor(d, k)))
	late := h.grantFor(d, k)
	late.Expires = time.Now().Add(-time.Second)
	refused("kept back until it was over", k, v.grant(t, late))
	parts := strings.Split(string(good), ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"other roles": {`"viewer"`, `"admin"`}, "a longer life": {`"life":3600`, `"life":99999`}, "a later end": {`"exp":1`, `"exp":9`},
	} {
		forged := strings.Replace(string(claims), change[0], change[1], 1)
		if forged == string(claims) {
			t.Fatalf("%s: nothing is changed in %s", what, claims)
		}
		refused(what, k, []byte(parts[0]+"."+base64.RawURLEncoding.EncodeToString([]byte(forged))+"."+parts[2]))
	}
	owner := h.grantFor(d, k)
	owner.Roles = []string{"owner"}
	refused("the vendor makes an owner", k, v.grant(t, owner))
	if len(d.guests.list()) != 0 {
		t.Fatalf("guests: %+v", d.guests.list())
	}
	// A borrowed fingerprint: the grant is k's, the signature of the introduction is not.
	h.next++
	in := question(t, d.ID(), thief, attach.Hash{1})
	if in.PublicKey, err = x509.MarshalPKIXPublicKey(k.Public()); err != nil {
		t.Fatal(err)
	}
	m := attach.NewIntroduction(h.next, attach.Hash{1}, &in, netip.AddrPort{})
	m.Grant = good
	h.tell(attach.KindIntroduction, m)
	var answer attach.Answer
	if h.hears(attach.KindAnswer, &answer); answer.Verdict == attach.VerdictYes || len(d.guests.list()) != 0 {
		t.Error("a borrowed fingerprint was let in")
	}
	if got := h.introduceWith(d, k, good); got.answer.Verdict != attach.VerdictYes {
		t.Error("after all that the good one is used up")
	}
	d.guests.dismiss(func(acl.Principal) bool { return true })
	refused("replayed", k, good)
}

// TestOwnerRefusesGrants: the owner switches the vendor off; who is here by a grant
// is cut before the answer, and it stays so over a restart.
func TestOwnerRefusesGrants(t *testing.T) {
	v := newVendor(t)
	keys := newHubKeys(t)
	h := startHub(t, keys, 1, 0)
	dir := shortDir(t)
	file := filepath.Join(dir, "vendor.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: v.spki(t)}), 0o644); err != nil {
		t.Fatal(err)
	}
	toml := text(dir, keys.toml()+fmt.Sprintf("[central]\nkey = %q\nroles = [\"viewer\"]\n", file))
	d := startIn(t, dir, toml)
	d.waitAttached(t)
	owner, viewer := d.owner(t), d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	k := newKey(t)
	c, err := h.relayed(d, h.introduceWith(d, k, v.grant(t, h.grantFor(d, k))))
	if err != nil {
		t.Fatal(err)
	}
	set := func(p *peer, on bool) (got api.Settings, err error) {
		err = p.tryCall("PATCH", "/v1/settings", api.SettingsPatch{Central: &on}, &got)
		return got, err
	}
	_, err = set(viewer, false)
	wantCode(t, "a viewer switches", err, api.CodeForbidden)
	_, err = set(&peer{Client: c, t: t}, false)
	wantCode(t, "the guest switches", err, api.CodeForbidden)
	got, err := set(owner, false)
	if err != nil || got.Central.On || got.Central.Fixed {
		t.Fatalf("settings %+v, %v", got, err)
	}
	if len(d.guests.list()) != 0 {
		t.Error("he is still a guest")
	}
	gone(t, c)
	if again := h.introduceWith(d, k, v.grant(t, h.grantFor(d, k))); again.answer.Verdict == attach.VerdictYes {
		t.Error("let in although the owner refused")
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = startIn(t, dir, toml)
	d.waitAttached(t)
	if again := h.introduceWith(d, k, v.grant(t, h.grantFor(d, k))); again.answer.Verdict == attach.VerdictYes {
		t.Error("let in after a restart although the owner refused")
	}
	if err := d.set(api.SettingsPatch{Central: new(true)}, acl.By{Via: "test"}, atTheDevice); err != nil {
		t.Fatal(err)
	}
	if again := h.introduceWith(d, k, v.grant(t, h.grantFor(d, k))); again.answer.Verdict != attach.VerdictYes {
		t.Error("refused although the owner takes the vendor's word again")
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state", settingsName), []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d = startIn(t, dir, toml); d.takesCentral() {
		t.Error("settings that cannot be read let the vendor in")
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	if d = startIn(t, dir, toml+"owner_may_refuse = false\n"); !d.takesCentral() {
		t.Error("what the owner may not refuse is refused")
	}
	err = d.set(api.SettingsPatch{Central: new(false)}, acl.By{Via: "test"}, atTheDevice)
	wantCode(t, "owner_may_refuse = false", err, api.CodeConflict)
}

// TestBlockedStaysOut: whom the owner has put out, by name or by key, no grant brings
// back.
func TestBlockedStaysOut(t *testing.T) {
	v := newVendor(t)
	d, h := attached(t, v.toml(t, `"viewer"`))
	owner := d.owner(t)
	k := newKey(t)
	c, err := h.relayed(d, h.introduceWith(d, k, v.grant(t, h.grantFor(d, k))))
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.tryCall("DELETE", "/v1/users/central:X@example.net", nil, nil); err != nil {
		t.Fatal(err)
	}
	gone(t, c)
	for _, key := range []*identity.Key{k, newKey(t)} {
		if again := h.introduceWith(d, key, v.grant(t, h.grantFor(d, key))); again.answer.Verdict == attach.VerdictYes {
			t.Error("a blocked name was let in")
		}
	}
	former := d.enter(t, "Bob", acl.RoleViewer)
	if err := owner.tryCall("DELETE", "/v1/users/Bob", nil, nil); err != nil {
		t.Fatal(err)
	}
	grant := h.grantFor(d, former)
	grant.Subject = "another@example.net"
	if again := h.introduceWith(d, former, v.grant(t, grant)); again.answer.Verdict == attach.VerdictYes {
		t.Error("a revoked key was let in under another name")
	}
	if len(d.guests.list()) != 0 {
		t.Errorf("guests: %+v", d.guests.list())
	}
}

func TestSettingsWithoutVendor(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	var got api.Settings
	owner.call("GET", "/v1/settings", nil, &got)
	if got.Central.On || !got.Central.Fixed {
		t.Errorf("settings %+v", got)
	}
	for _, body := range []any{api.SettingsPatch{Central: new(false)}, api.SettingsPatch{}} {
		if err := owner.tryCall("PATCH", "/v1/settings", body, &got); err == nil {
			t.Errorf("%+v is taken", body)
		}
	}
}

// TestVendorKeys: a key that is none, or a file that is not there, keeps the device
// from starting with less than was asked for.
func TestVendorKeys(t *testing.T) {
	dir := shortDir(t)
	keys := newHubKeys(t)
	for _, key := range []string{"MFkw", "none.pem"} {
		toml := text(dir, keys.toml()+fmt.Sprintf("[central]\nkey = %q\nroles = [\"viewer\"]\n", key))
		if d, err := tryStart(t, dir, toml); err == nil {
			_ = d.stop()
			t.Errorf("key %q: it starts", key)
		} else if !strings.Contains(err.Error(), "central.key") {
			t.Errorf("key %q: %v", key, err)
		}
	}
}
