package acl

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// The tests of sudden death run this binary again as a child that changes a list
// as fast as it can and acknowledges every change on its standard output.
const (
	childDir   = "KEYHOLE_ACL_CHILD_DIR"
	childCount = "KEYHOLE_ACL_CHILD_COUNT" // changes to make; 0: until killed; -1: none
	fullCounts = "KEYHOLE_FULL"            // 1: the counts of a release
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		n, _ := strconv.Atoi(os.Getenv(childCount))
		if err := childMain(dir, n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// counts picks a number of trials.
func counts(short, full int) int {
	if os.Getenv(fullCounts) == "1" {
		return full
	}
	if raceDetector {
		return (short + 3) / 4
	}
	return short
}

func childMain(dir string, n int) error {
	s, err := Open(childOptions(dir))
	if err != nil {
		return err
	}
	if n < 0 { // idle: ask and be asked only
		for range 1000 {
			s.Decide(Principal{Fingerprint: fp(1)}, ActionMe, Service{})
			s.Users()
		}
		if _, err := s.Verify(); err != nil {
			return err
		}
	}
	for i := 0; n == 0 || i < n; i++ {
		if i%3 == 0 {
			if err := s.Record(Event{What: WhatSessionStarted, User: "somebody", Fingerprint: fp(7)}); err != nil {
				return err
			}
		}
		sequence, err := nextChange(s)
		if err != nil {
			return err
		}
		if _, err := fmt.Println(sequence); err != nil { // one write: the acknowledgement
			return err
		}
	}
	return s.Close()
}

// childOptions are those of a directory that prepareChild made.
func childOptions(dir string) Options {
	key, err := identity.Load(filepath.Join(dir, "device.pem"))
	if err != nil {
		panic(err)
	}
	return Options{
		StateDir:    filepath.Join(dir, "state"),
		IdentityDir: filepath.Join(dir, "identity"),
		Key:         key,
		Clock:       func() Clock { return Clock{Now: time.Unix(1_800_000_000, 0), Known: true} },
	}
}

func prepareChild(t testing.TB, dir string) {
	t.Helper()
	if _, err := identity.LoadOrCreate(filepath.Join(dir, "device.pem")); err != nil {
		t.Fatal(err)
	}
}

// nextChange makes exactly one change, which depends on the list alone, so that
// the list after n changes is always the same. It returns n.
func nextChange(s *Store) (uint64, error) {
	_, sequence := s.Position()
	n := int(sequence) + 1
	if err := makeChange(s, n); err != nil {
		return 0, fmt.Errorf("change %d: %w", n, err)
	}
	if _, now := s.Position(); now != sequence+1 {
		return 0, fmt.Errorf("change %d: the list is at %d", n, now)
	}
	return sequence + 1, nil
}

func makeChange(s *Store, n int) error {
	if n == 1 {
		_, err := s.Enter(Newcomer{Fingerprint: fp(1), User: "Owner"}, testBy)
		return err
	}
	if n%9 == 8 { // somebody who is no user
		who := fmt.Sprintf("x%d", n/9%3)
		err := s.Unblock(KindCentral, who, testBy)
		if errors.Is(err, ErrNotBlocked) {
			err = s.Block(KindCentral, who, testBy)
		}
		return err
	}
	if n%13 == 12 { // a version of the vendor's list, which is always another one
		var people []CentralUser
		for i := range 1 + n/13%3 {
			people = append(people, CentralUser{Name: fmt.Sprintf("Vendor's %d", i), Role: RoleViewer, Keys: []identity.Fingerprint{fp(300_000 + n*4 + i)}})
		}
		_, err := s.MergeCentral(people, "version", testBy)
		return err
	}
	if done, err := changeInvites(s, n); done {
		return err
	}
	name := fmt.Sprintf("User %d", n/5%7)
	u, err := s.User(name)
	if err != nil {
		_, err = s.Enter(Newcomer{Fingerprint: fp(1000 + n), User: name, KeyName: "phone", Role: RoleViewer}, testBy)
		return err
	}
	service := fmt.Sprintf("cam%d", n%3)
	switch n % 5 {
	case 0:
		role := RoleAdmin
		if u.Role == RoleAdmin {
			role = RoleViewer
		}
		_, err = s.SetRole(name, role, testBy)
	case 1:
		if len(u.Keys) > 2 {
			return s.RemoveKey(u.Keys[0].Fingerprint, testBy)
		}
		_, err = s.AddKey(name, fp(100_000+n), "laptop", testBy)
	case 2:
		for _, g := range u.Grants {
			if g.Service == service {
				_, err = s.RevokeGrant(name, service, testBy)
				return err
			}
		}
		_, err = s.Grant(name, Grant{Service: service}, testBy)
	case 3:
		_, err = s.SetLimits(name, Limits{Until: time.Unix(2_000_000_000+int64(n), 0).UTC()}, testBy)
	default:
		_, err = s.Revoke(name, testBy)
	}
	return err
}

// changeInvites does what is to be done with invites in change n, if anything.
func changeInvites(s *Store, n int) (done bool, err error) {
	open := s.Invites()
	switch {
	case n%11 == 3 && len(open) < 4:
		_, err = s.Invite(testInvite(n, RoleViewer), time.Hour, testBy)
	case n%11 == 8 && len(open) > 0:
		_, err = s.Redeem(open[0].Name, Newcomer{Fingerprint: fp(200_000 + n), User: fmt.Sprintf("Guest %d", n)}, testBy)
	case n%11 == 9 && s.current.Load().byKey[fp(200_000+n-1)] != nil:
		_, err = s.Revoke(fp(200_000+n-1).String(), testBy)
	case n%11 == 10 && len(open) > 2:
		err = s.Uninvite(open[0].Name, testBy)
	default:
		return false, nil
	}
	return true, err
}

// model knows the list after any number of changes, by making them where syncs
// cost nothing.
type model struct {
	t     testing.TB
	store *Store
	lists []string // by sequence
}

func newModel(t testing.TB) *model {
	t.Helper()
	dir := memoryDir(t)
	prepareChild(t, dir)
	s, err := Open(childOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &model{t: t, store: s, lists: []string{describe(s)}}
}

func (m *model) at(sequence uint64) string {
	m.t.Helper()
	for uint64(len(m.lists)) <= sequence {
		if _, err := nextChange(m.store); err != nil {
			m.t.Fatalf("model: %v", err)
		}
		m.lists = append(m.lists, describe(m.store))
	}
	return m.lists[sequence]
}

func describe(s *Store) string {
	text, err := json.Marshal([]any{s.Users(), s.Blocked(), s.Invites()})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// memoryDir is a directory on a file system in memory, if there is one.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "keyhole-acl-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

var errNotWhole = errors.New("the audit log is not whole")

// examine opens what a sudden death left and returns how many changes are in
// force, or what is wrong: a
// change lost that was acknowledged, one that nobody made, or a store that is
// not whole afterwards.
func examine(dir string, m *model, acknowledged uint64) (sequence uint64, err error) {
	s, err := Open(childOptions(dir))
	if err != nil {
		return sequence, fmt.Errorf("open: %w", err)
	}
	defer func() {
		if closing := s.Close(); err == nil {
			err = closing
		}
	}()
	epoch, sequence := s.Position()
	if epoch != 1 || sequence < acknowledged || sequence > acknowledged+1 {
		return sequence, fmt.Errorf("the list is at %d.%d, acknowledged was 1.%d", epoch, sequence, acknowledged)
	}
	if got, want := describe(s), m.at(sequence); got != want {
		return sequence, fmt.Errorf("at %d: got %s, want %s", sequence, got, want)
	}
	if n := s.Degraded(); n != 0 {
		return sequence, fmt.Errorf("%d copies are out of use", n)
	}
	for _, c := range s.copies {
		if err := c.db.View(check); err != nil {
			return sequence, err
		}
	}
	v, err := s.Verify()
	if err == nil && v.Bad != nil {
		err = fmt.Errorf("%w: %v", errNotWhole, v.Bad)
	}
	return sequence, err
}
