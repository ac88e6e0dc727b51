package registry

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A number leads to its device for five minutes, on every node, until it is taken back by
// the one that has it.
func TestCallNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := open(t)
		elsewhere := New(Config{Store: s.Join(), Seal: SealKey{1}, Node: "node2"})
		t.Cleanup(func() { _ = elsewhere.store.Close() })
		ctx, mine, other := t.Context(), fingerprint(1).ID(), fingerprint(2).ID()
		number, err := r.GiveCall(ctx, mine)
		if err != nil || !attach.IsCallNumber(number) {
			t.Fatalf("%q, %v", number, err)
		}
		finds := func(want error) {
			t.Helper()
			id, err := elsewhere.FindCall(ctx, number)
			if !errors.Is(err, want) || err == nil && id != mine {
				t.Errorf("found %q, %v, want %v", id, err, want)
			}
		}
		finds(nil)
		if err := elsewhere.EndCall(ctx, number, other); err != nil {
			t.Fatal(err)
		}
		finds(nil)
		if err := elsewhere.EndCall(ctx, number, mine); err != nil {
			t.Fatal(err)
		}
		finds(ErrNoCall)
		if err := elsewhere.EndCall(ctx, number, mine); err != nil {
			t.Errorf("taken back twice: %v", err)
		}

		if number, err = r.GiveCall(ctx, mine); err != nil {
			t.Fatal(err)
		}
		time.Sleep(CallLife - 2*time.Second)
		finds(nil)
		time.Sleep(2 * time.Second)
		finds(ErrNoCall)
		// What a node that died has left behind is given out again.
		if err := r.replaceCall(ctx, number, []byte(`{"device":"`+string(other)+`","until":99999999999}`)); err != nil {
			t.Errorf("a number that is over: %v", err)
		}
		if err := r.replaceCall(ctx, number, nil); !errors.Is(err, store.ErrExists) {
			t.Errorf("a number in use: %v", err)
		}
	})
}

// No two devices have one number, whichever node gave it out.
func TestCallNumbersAreUnique(t *testing.T) {
	r, s := open(t)
	elsewhere := New(Config{Store: s.Join(), Seal: SealKey{1}, Node: "node2"})
	t.Cleanup(func() { _ = elsewhere.store.Close() })
	given := map[string]bool{}
	for i := range 2000 {
		node := r
		if i%2 == 1 {
			node = elsewhere
		}
		number, err := node.GiveCall(t.Context(), fingerprint(i).ID())
		if err != nil || given[number] {
			t.Fatalf("number %d: %q twice, %v", i, number, err)
		}
		given[number] = true
	}
}

func TestCallFigures(t *testing.T) {
	if CallLife != 5*time.Minute || attach.CallDigits != 6 {
		t.Errorf("numbers of %d digits for %v, want 6 for 5 minutes", attach.CallDigits, CallLife)
	}
}
