package pairing

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSupportBudget(t *testing.T) {
	refused := func(t *testing.T, h *helpline) time.Duration {
		t.Helper()
		did, err := h.Press()
		var limit *LimitError
		if did != SupportRefused || !errors.As(err, &limit) {
			t.Fatalf("%v, %v", did, err)
		}
		return limit.Wait
	}
	once := func(t *testing.T, h *helpline) {
		t.Helper()
		h.shows(t)
		h.Hang(SupportPressed)
	}
	supportRule(t, "three an hour", func(t *testing.T, h *helpline) {
		for range SupportCodesPerHour {
			once(t, h)
			time.Sleep(time.Minute)
		}
		if wait := refused(t, h); wait != 57*time.Minute {
			t.Errorf("wait %v", wait)
		}
		time.Sleep(57*time.Minute - time.Second)
		refused(t, h)
		time.Sleep(time.Second)
		once(t, h)
		refused(t, h)
	})
	supportRule(t, "ten a day", func(t *testing.T, h *helpline) {
		began := time.Now()
		for range SupportCodesPerDay {
			once(t, h)
			time.Sleep(time.Hour)
		}
		refused(t, h)
		time.Sleep(time.Until(began.Add(24*time.Hour - time.Second)))
		refused(t, h)
		time.Sleep(time.Second)
		once(t, h)
		refused(t, h)
	})
	supportRule(t, "a reboot gives nothing", func(t *testing.T, h *helpline) {
		for range SupportCodesPerHour {
			once(t, h)
		}
		for range 20 {
			h = h.reboot(t)
			refused(t, h)
		}
		time.Sleep(45 * time.Minute)
		synctest.Wait()
		h = h.reboot(t) // kept every ten minutes: 40 of the 45 count
		if wait := refused(t, h); wait < 15*time.Minute || wait > 20*time.Minute {
			t.Errorf("wait %v", wait)
		}
		time.Sleep(20 * time.Minute)
		once(t, h)
	})
	supportRule(t, "a day of running time", func(t *testing.T, h *helpline) {
		for range SupportCodesPerDay {
			once(t, h)
			time.Sleep(time.Hour)
		}
		stores, _ := h.shelf.written()
		for range 15 { // restarted each hour: ten minutes are lost once
			h = h.reboot(t)
			time.Sleep(time.Hour + time.Second)
			synctest.Wait()
		}
		once(t, h)
		if n, _ := h.shelf.written(); n-stores > 15*6+2 {
			t.Errorf("%d writes", n-stores)
		}
	})
	supportRule(t, "what was used ages out and nothing more is written", func(t *testing.T, h *helpline) {
		once(t, h)
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		stores, _ := h.shelf.written()
		if stores > 2+6+24 {
			t.Errorf("%d writes for one code", stores)
		}
		time.Sleep(100 * time.Hour)
		synctest.Wait()
		if n, _ := h.shelf.written(); n != stores {
			t.Error("an idle device writes")
		}
	})
	supportRule(t, "a ledger that cannot be kept", func(t *testing.T, h *helpline) {
		h.shelf.broken = errors.New("no disk")
		refused(t, h)
		wantPhase(t, h, SupportIdle)
	})
	for name, data := range map[string]string{
		"damaged": "}{", "too long": `{"codes":[` + strings.Repeat(" ", maxLedgerBytes) + `]}`, "negative": `{"codes":[{"age":-5,"tries":0}]}`,
		"tomorrow": `{"codes":[{"age":99999999,"tries":0}]}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHelpline(t, func(c *SupportConfig) { c.Ledger = &shelf{data: []byte(data)} })
			if wait := refused(t, h); wait != 24*time.Hour {
				t.Errorf("%s: wait %v", name, wait)
			}
		})
	}
}

// A guesser who has a button pressed for him all the time, and restarts the device as he
// likes, gets no more than 30 tries a day.
func TestSupportBruteForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHelpline(t)
		tries, began := 0, time.Now()
		for n := byte(0); time.Since(began) < 24*time.Hour; n++ {
			if did, _ := h.Press(); did == SupportShown {
				for {
					if _, err := h.begin(t, hotline(n%200+1), SupportCode{"000000"}); err != nil {
						break
					}
					tries++
				}
				h.Hang(SupportPressed)
			}
			if n%3 == 0 {
				h = h.reboot(t)
			}
			time.Sleep(7 * time.Minute)
		}
		if most := SupportCodesPerDay * TriesPerSupportCode; tries > most || tries < most/2 {
			t.Errorf("%d tries in a day, want at most %d", tries, most)
		}
	})
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"codes":[{"age":5400,"tries":3},{"age":60,"tries":0}]}`))
	f.Add([]byte(`{"codes":[]}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		now := time.Now()
		codes, err := parseLedger(data, now)
		if err != nil {
			return
		}
		b := budget{store: &shelf{}, codes: codes, known: true}
		if b.waitLocked(now) > day || len(b.codes) > SupportCodesPerDay {
			t.Errorf("%d codes, wait %v", len(b.codes), b.waitLocked(now))
		}
	})
}
