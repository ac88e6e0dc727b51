package acl

import (
	"testing"
)

// Who is no user may what the best of his roles allows, and never what an owner may.
func TestDecideGuests(t *testing.T) {
	roles, err := compileRoles([]Role{vendorRole})
	if err != nil {
		t.Fatal(err)
	}
	l := emptyList(1)
	for _, row := range []struct {
		roles   []string
		action  Action
		service Service
		allow   bool
		why     string
	}{
		{nil, ActionMe, Service{}, false, whyNoRole},
		{nil, ActionHello, Service{}, true, whyHello},
		{[]string{"unheard-of"}, ActionMe, Service{}, false, whyNoRole},
		{[]string{RoleOwner}, ActionMe, Service{}, false, whyNoRole},
		{[]string{RoleOwner, RoleAdmin}, ActionReset, Service{}, false, "role admin may not reset the device"},
		{[]string{RoleViewer}, ActionTunnel, Service{Name: "cam", Type: "rtsp"}, true, "role viewer may"},
		{[]string{RoleViewer}, ActionTunnel, Service{Name: "shell", Type: "ssh"}, false, "role viewer may not use services of this type"},
		{[]string{RoleGuest, RoleViewer}, ActionTunnel, Service{Name: "cam", Type: "rtsp"}, true, "role viewer may"},
		{[]string{"door"}, ActionTunnel, Service{Name: "x", Type: "intercom"}, true, "role door may"},
		{[]string{RoleAdmin}, "fly", Service{}, false, whyAction},
	} {
		for _, kind := range []Kind{KindAuthority, KindCentral, KindSupport} {
			if kind == KindSupport && supportNever&row.action.bit() != 0 {
				continue // see TestSupportNever
			}
			p := Principal{Kind: kind, Fingerprint: fp(1), Name: "x", Roles: row.roles}
			if got := l.decide(roles, noClock(t), p, row.action, row.service); got.Allow != row.allow || got.Why != row.why || got.User != "" {
				t.Errorf("%s %v %s: got %+v, want %v %q", p, row.roles, row.action, got, row.allow, row.why)
			}
		}
	}
}

// Nobody in particular may reach what authenticates by itself, and nothing else,
// whatever he says that he is.
func TestDecideAnonymous(t *testing.T) {
	roles, err := compileRoles(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := emptyList(1)
	p := Principal{Kind: KindAnonymous, Fingerprint: fp(1), Name: "root", Roles: []string{RoleAdmin, RoleOwner}}
	for _, action := range Actions {
		for _, service := range []Service{{}, {Name: "cam", Type: "rtsp"}, {Name: "cam", Type: "rtsp", Application: true}} {
			want := action == ActionHello || action == ActionTunnel && service.Application
			if got := l.decide(roles, noClock(t), p, action, service); got.Allow != want {
				t.Errorf("%s on %+v: got %+v, want %v", action, service, got, want)
			}
		}
	}
}

func TestPrincipalString(t *testing.T) {
	for _, row := range []struct {
		p    Principal
		want string
	}{
		{Principal{Fingerprint: fp(1)}, fp(1).Short()},
		{Principal{Kind: KindAnonymous}, "anonymous"},
		{Principal{Kind: KindAuthority, Name: "alice@example.net"}, "alice@example.net (authority)"},
		{Principal{Kind: KindCentral, Name: "x"}, "x (central)"},
		{Principal{Kind: KindSupport, Name: "support"}, "support"},
		{Principal{Kind: KindSupport}, "support"},
		{Principal{Kind: KindSupport, Name: "hotline"}, "hotline (support)"},
		{Principal{Kind: 99}, "unknown"},
	} {
		if got := row.p.String(); got != row.want {
			t.Errorf("%+v: %q, want %q", row.p, got, row.want)
		}
	}
}

// everyKind is a principal of each kind, and one that is nobody.
func everyKind() []Principal {
	given := []string{RoleGuest, RoleViewer}
	return []Principal{
		{Fingerprint: fp(777)}, {Fingerprint: fp(5000)}, {Kind: KindAnonymous, Fingerprint: fp(1)},
		{Kind: KindAuthority, Fingerprint: fp(5000), Name: "Alice@example.net", Roles: given},
		{Kind: KindSupport, Fingerprint: fp(5000), Name: "support", Roles: given},
		{Kind: KindCentral, Fingerprint: fp(5000), Name: "x", Roles: given},
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	roles, err := compileRoles(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := bigList(t, MaxUsers)
	cam := Service{Name: "cam", Type: "rtsp", Application: true}
	for _, p := range everyKind() {
		if n := testing.AllocsPerRun(100, func() { l.decide(roles, nil, p, ActionTunnel, cam) }); n != 0 {
			t.Errorf("%s: %v allocations", p, n)
		}
	}
}

// The goal is 2 µs, for each kind.
func BenchmarkDecide(b *testing.B) {
	roles, err := compileRoles(nil)
	if err != nil {
		b.Fatal(err)
	}
	l := bigList(b, MaxUsers)
	cam := Service{Name: "cam", Type: "rtsp", Application: true}
	for i, p := range everyKind() {
		name := p.Kind.String()
		if i == 1 {
			name = "stranger"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.decide(roles, nil, p, ActionTunnel, cam)
			}
		})
	}
}

// A hotline never manages users, never resets and never sends firmware, whatever role it
// was given; and without control no role of support reaches a service.
func TestSupportNever(t *testing.T) {
	everything := Role{Name: "everything", Actions: Actions, Types: []string{AnyType}}
	roles, err := compileRoles([]Role{everything})
	if err != nil {
		t.Fatal(err)
	}
	l := emptyList(1)
	service := Service{Name: "cam", Type: "rtsp"}
	for _, given := range [][]string{{"everything"}, {RoleAdmin}, {RoleSupport, RoleSupportControl}, {RoleOwner}} {
		p := Principal{Kind: KindSupport, Fingerprint: fp(1), Name: "support", Roles: given}
		for _, never := range []Action{ActionUsers, ActionSettings, ActionFirmware, ActionReset, ActionProvision} {
			if got := l.decide(roles, noClock(t), p, never, service); got.Allow {
				t.Errorf("%v: %s: %+v", given, never, got)
			}
		}
	}
	hotline := Principal{Kind: KindSupport, Fingerprint: fp(1), Name: "support", Roles: []string{RoleSupport}}
	if l.decide(roles, noClock(t), hotline, ActionTunnel, service).Allow {
		t.Error("a tunnel without control")
	}
	hotline.Roles = append(hotline.Roles, RoleSupportControl)
	if !l.decide(roles, noClock(t), hotline, ActionTunnel, service).Allow {
		t.Error("no tunnel with control")
	}
}
