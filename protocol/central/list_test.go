package central

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholed/keyhole/protocol/identity"
)

func someList(people int) List {
	l := List{Device: device, Version: 17, Expires: time.Unix(1_790_000_000, 0).UTC()}
	for i := range people {
		l.People = append(l.People, Person{
			Name: fmt.Sprintf("Person %d", i), Role: "viewer", Keys: []identity.Fingerprint{sha256.Sum256([]byte{byte(i), byte(i >> 8)})},
		})
	}
	return l
}

func TestListRoundTrip(t *testing.T) {
	key := newKey(t)
	for _, people := range []int{0, 1, MaxPeople} {
		l := someList(people)
		token, err := l.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Keys{&key.PublicKey}.ReadList([]byte(token))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, got); diff != "" {
			t.Error(diff)
		}
		t.Logf("%d people: %d bytes", people, len(token))
	}
	if token, err := someList(MaxPeople + 1).Sign(key); err == nil {
		t.Errorf("%d people fit: %d bytes", MaxPeople+1, len(token))
	}
}

func TestListRefused(t *testing.T) {
	key := newKey(t)
	keys := Keys{&key.PublicKey}
	const header = `{"alg":"ES256","typ":"keyhole-list"}`
	one, two := strings.Repeat("1", 64), strings.Repeat("2", 64)
	entry := func(name, role string, fingerprints ...string) string {
		return fmt.Sprintf(`{"name":%q,"role":%q,"keys":["%s"]}`, name, role, strings.Join(fingerprints, `","`))
	}
	list := func(entries ...string) string {
		return fmt.Sprintf(`{"aud":%q,"version":3,"users":[%s]}`, device, strings.Join(entries, ","))
	}
	if l, err := keys.ReadList([]byte(raw(t, key, header, list(entry("Alice", "viewer", one))))); err != nil || len(l.People) != 1 || !l.Expires.IsZero() {
		t.Fatalf("the good one: %+v, %v", l, err)
	}
	for _, claims := range []string{
		list(entry("Alice", "viewer", one), entry("alice", "viewer", two)),
		list(entry("Alice", "viewer", one), entry("Bob", "viewer", one)),
		list(entry("Alice", "viewer", one, one)),
		list(entry("Alice", "viewer")),
		list(entry("Alice", "viewer", strings.Repeat("0", 64))),
		list(entry("Alice", "viewer", strings.Repeat("A", 64))),
		list(entry("Alice", "Viewer", one)),
		list(entry("", "viewer", one)),
		list(strings.Replace(entry("Alice", "viewer", one), `{"name"`, `{"until":0,"name"`, 1)),
		list(strings.Replace(entry("Alice", "viewer", one), `{"name"`, `{"Until":5,"name"`, 1)),
		list(strings.Replace(entry("Alice", "viewer", one), `{"name"`, `{"version":5,"name"`, 1)),
		strings.Replace(list(), `"version":3`, `"version":0`, 1), strings.Replace(list(), `"version":3`, `"version":-1`, 1),
		strings.Replace(list(), `"version":3`, `"version":18446744073709551615`, 1), strings.Replace(list(), `"version":3,`, ``, 1),
		strings.Replace(list(), `"version":3`, `"version":3,"exp":0`, 1), strings.Replace(list(), `"users":[]`, `"users":null`, 1),
		strings.Replace(list(), `,"users":[]`, ``, 1), strings.Replace(list(), `"aud":"y`, `"aud":"`, 1),
	} {
		if l, err := keys.ReadList([]byte(raw(t, key, header, claims))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", claims, l, err)
		}
	}
	if _, err := keys.ReadList([]byte(raw(t, key, goodHeader, list()))); err == nil {
		t.Error("a list was taken that says it is a grant")
	}
	if _, err := keys.ReadList([]byte(raw(t, newKey(t), header, list()))); !errors.Is(err, ErrSignature) {
		t.Errorf("signed by a stranger: %v", err)
	}
	if _, err := keys.ReadList([]byte(strings.Repeat("A", MaxListBytes+1))); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}
