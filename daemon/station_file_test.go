package daemon

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A factory reset leaves what is known of the basestation, is told, and voids the
// passes of before.
func TestResetKeepsTheBasestation(t *testing.T) {
	keys := newHubKeys(t)
	h := startHub(t, keys, 5, 4)
	dir := shortDir(t)
	toml := text(dir, keys.toml())
	d := startIn(t, dir, toml)
	d.waitAttached(t)
	owner := d.owner(t)
	before := d.file()
	owner.call("POST", "/v1/reset", api.Reset{Erase: api.EraseEverything}, nil)
	if err := d.stop(); !errors.Is(err, ErrReset) {
		t.Fatal(err)
	}
	d = startIn(t, dir, toml)
	d.waitAttached(t)
	after := d.file()
	if !slices.Equal(after.Roots, before.Roots) || after.Boots != before.Boots+1 || after.Presence <= before.Presence {
		t.Errorf("before %+v, after %+v", before, after)
	}
	for {
		var e attach.Event
		h.hears(attach.KindEvent, &e)
		h.tell(attach.KindEventTaken, attach.EventTaken{Number: e.Number})
		if e.Kind == "device.reset" {
			break
		}
	}
}

// Floors only rise, whatever becomes of the files.
func TestDamagedStationFile(t *testing.T) {
	root := newHubKeys(t).text()
	write := func(dir string) *stationFile {
		f := openStationFile(dir, []string{root}, testLog(t))
		key, err := attach.ParseRootKey(root)
		if err != nil {
			t.Fatal(err)
		}
		f.learn("base.example.net:7443", attach.Known{Certificate: []byte{1}, Cookie: []byte{2}}, []attach.Root{{Key: key, Floor: 9}})
		f.learn("base.example.net:7443", attach.Known{Certificate: []byte{1}, Cookie: []byte{2}}, []attach.Root{{Key: key, Floor: 3}})
		return f
	}
	floor := func(f *stationFile) uint64 {
		roots, err := f.roots([]string{root})
		if err != nil {
			t.Fatal(err)
		}
		return roots[0].Floor
	}
	damage := func(t *testing.T, path string) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// A flipped bit in the floor itself would otherwise be another floor.
		i := strings.Index(string(data), `"floor":9`)
		data[i+len(`"floor":`)] = '1'
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []struct {
		name          string
		state, floors bool // damaged
		want          uint64
		lost          bool
	}{{"whole", false, false, 9, false}, {"state", true, false, 9, false}, {"floors", false, true, 9, false}, {"both", true, true, 0, true}} {
		t.Run(one.name, func(t *testing.T) {
			dir := t.TempDir()
			if got := floor(write(dir)); got != 9 {
				t.Fatalf("floor %d, want 9", got)
			}
			if one.state {
				damage(t, filepath.Join(dir, stationName))
			}
			if one.floors {
				damage(t, filepath.Join(dir, floorsName))
			}
			f := openStationFile(dir, []string{root}, testLog(t))
			if got := floor(f); got != one.want {
				t.Errorf("floor %d, want %d", got, one.want)
			}
			if lost := f.warning([]string{root}) != ""; lost != one.lost {
				t.Errorf("warning %q", f.warning([]string{root}))
			}
			if other := f.warning([]string{newHubKeys(t).text()}); other != "" {
				t.Errorf("other roots: warning %q", other)
			}
			// And it stays told, after it was written anew.
			if err := f.change(func(s *stationState) bool { s.Boots++; return true }); err != nil {
				t.Fatal(err)
			}
			if lost := openStationFile(dir, []string{root}, testLog(t)).warning([]string{root}) != ""; lost != one.lost {
				t.Error("the loss is forgotten")
			}
		})
	}
}

func FuzzStationFile(f *testing.F) {
	dir := f.TempDir()
	_ = writeSealed(filepath.Join(dir, "seed"), stationState{Boots: 3, Roots: []rootFloor{{"k", 4}}})
	seed, err := os.ReadFile(filepath.Join(dir, "seed"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"state":{},"sum":""}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var s stationState
		if readSealed(path, &s) != nil {
			return
		}
		if err := writeSealed(path, s); err != nil {
			t.Fatal(err)
		}
		var again stationState
		if err := readSealed(path, &again); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
		a, _ := json.Marshal(s)
		if b, _ := json.Marshal(again); string(a) != string(b) {
			t.Errorf("%s became %s", a, b)
		}
	})
}

func TestFactorySecret(t *testing.T) {
	keys := newHubKeys(t)
	dir := shortDir(t)
	secret := filepath.Join(dir, "factory.secret")
	toml := text(dir, keys.toml()+"serial = \"A-7\"\nsecret_file = "+`"`+secret+`"`+"\n")
	if _, err := tryStart(t, dir, toml); err == nil || !strings.Contains(err.Error(), "secret_file") {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(secret, []byte("too short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tryStart(t, dir, toml); err == nil || !strings.Contains(err.Error(), "43 characters") {
		t.Errorf("with another file: %v", err)
	}
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	if err := os.WriteFile(secret, []byte(attach.FormatRootKey(raw[:])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tryStart(t, dir, toml); err == nil {
		t.Error("a secret that others may read is taken")
	}
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readFactory(parse(t, dir, toml).Basestation)
	if err != nil || got.Serial != "A-7" || got.Secret != attach.Secret(raw) {
		t.Errorf("%v, %v", got.Serial, err)
	}
	startIn(t, dir, toml)
}

// A basestation that gives another cookie each second wears out no flash; a floor
// that rises is kept at once.
func TestWhatIsLearntIsWrittenSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newHubKeys(t).text()
		key, err := attach.ParseRootKey(root)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		f := openStationFile(dir, []string{root}, testLog(t))
		learn := func(cookie byte, floor uint64) {
			f.learn("base.example.net:7443", attach.Known{Certificate: []byte{1}, Cookie: []byte{cookie}}, []attach.Root{{Key: key, Floor: floor}})
		}
		kept := func() (cookie byte) {
			t.Helper()
			var s stationState
			if err := readSealed(filepath.Join(dir, stationName), &s); err != nil {
				t.Fatal(err)
			}
			return s.Cookie[0]
		}
		learn(1, 5)
		for cookie := byte(2); cookie < 100; cookie++ {
			time.Sleep(time.Second)
			learn(cookie, 5)
		}
		if got := kept(); got != 1 || f.now().Cookie[0] != 99 {
			t.Errorf("cookie %d is kept, %d known; want 1 and 99", got, f.now().Cookie[0])
		}
		learn(100, 6)
		if got := kept(); got != 100 {
			t.Errorf("a floor has risen, and cookie %d is kept", got)
		}
		learn(101, 6)
		time.Sleep(learnEvery)
		learn(102, 6)
		if got := kept(); got != 102 {
			t.Errorf("an hour later cookie %d is kept", got)
		}
	})
}
