package relay

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

func TestTicketsAreGoodOnce(t *testing.T) {
	w := newWorld(t, Config{})
	ct, dt := w.pair(camera)
	client := w.dial(ct)
	w.waits(1)
	w.isClosed("the client's ticket again, while it waits", w.dial(ct))
	device := w.dial(dt)
	w.carries(client, device)
	w.isClosed("the client's ticket again, afterwards", w.dial(ct))
	w.isClosed("the device's ticket again", w.dial(dt))
	w.carries(client, device)
	if c := w.Counters(); c.Unknown != 3 || c.Joined != 1 {
		t.Errorf("counted %+v", c)
	}
}

func TestUnknownTickets(t *testing.T) {
	w := newWorld(t, Config{})
	ct, _ := w.pair(camera)
	almost := ct
	almost[31] ^= 1
	w.isClosed("one bit wrong", w.dial(almost))
	w.isClosed("made up", w.dial(attach.NewTicket()))
	if c := w.Counters(); c.Unknown != 2 {
		t.Errorf("counted %+v", c)
	}
	w.isClosed("zero", w.dial(attach.Ticket{}))
	for _, c := range []struct {
		what string
		sent []byte
	}{
		{"another version", append([]byte{2}, ct[:]...)},
		{"TLS", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and a hello that is longer than a preface")},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: relay.example.net\r\n\r\n")},
	} {
		w.isClosed(c.what, w.send(c.sent))
	}
	if c := w.Counters(); c.Unknown != 2 || c.Malformed != 4 || c.Pairs != 1 {
		t.Errorf("counted %+v", c)
	}
}

// Tickets of two pairs do not meet, whichever sides they are of.
func TestSwappedTickets(t *testing.T) {
	w := newWorld(t, Config{}, func(x *times) { x.join = 50 * time.Millisecond })
	for _, c := range []struct {
		what          string
		first, second side
	}{{"client and device", client, device}, {"two clients", client, client}, {"two devices", device, device}} {
		one, two := [2]attach.Ticket{}, [2]attach.Ticket{}
		one[client], one[device], _ = w.Pair(camera, time.Millisecond, nil)
		two[client], two[device], _ = w.Pair(camera, time.Minute, nil)
		a, b := w.dial(one[c.first]), w.dial(two[c.second])
		// The first ones's time is over soon, which ends its leg: alone.
		w.isClosed(c.what, a)
		w.carries(b, w.dial(two[c.second.other()]))
	}
	if c := w.Counters(); c.Joined != 3 {
		t.Errorf("joined %d, want the 3 that belong together", c.Joined)
	}
}

func TestTicketsExpire(t *testing.T) {
	w := newWorld(t, Config{}, func(x *times) { x.join = time.Millisecond })
	ct, dt, err := w.Pair(camera, time.Millisecond, func() { t.Error("first leg of an expired ticket") })
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("expired", func(c Counters) bool { return c.Expired == 1 && c.Pairs == 0 })
	w.isClosed("expired", w.dial(ct))
	w.isClosed("expired", w.dial(dt))

	// A leg that waits in vain is closed in the end.
	ct, _, _ = w.Pair(camera, 200*time.Millisecond, nil)
	client := w.dial(ct)
	w.isClosed("waited in vain", client)
	w.eventually("nothing is left", func(c Counters) bool { return c.Expired == 2 && c.Pairs+c.Unjoined == 0 })
}

// The second leg gets its time even if the first came in the last moment.
func TestFirstLegLendsTime(t *testing.T) {
	w := newWorld(t, Config{})
	ct, dt, _ := w.Pair(camera, 300*time.Millisecond, nil)
	client := w.dial(ct)
	w.waits(1)
	w.mu.Lock()
	until := w.tickets[hashOf(dt)].pair.until
	w.mu.Unlock()
	if left := until - w.now(); left < joinTime-time.Second {
		t.Errorf("the device has %v left, want about %v", left, joinTime)
	}
	w.carries(client, w.dial(dt))
}

func TestSlowPreface(t *testing.T) {
	w := newWorld(t, Config{}, func(x *times) { x.preface = 100 * time.Millisecond })
	ct, _ := w.pair(camera)
	w.isClosed("stopped in the middle", w.send(preface(ct)[:20]))
	w.isClosed("nothing sent", w.send(nil))
	if c := w.Counters(); c.Malformed != 2 || c.Unjoined != 0 {
		t.Errorf("counted %+v", c)
	}
}

// One byte at a time is odd, and right.
func TestPrefaceInPieces(t *testing.T) {
	w := newWorld(t, Config{})
	ct, dt := w.pair(camera)
	client := w.send(nil)
	for _, b := range preface(ct) {
		client.Write([]byte{b})
	}
	w.carries(client, w.dial(dt))
}

func TestOneSourceMayNotTakeAll(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{UnjoinedPerSource: 8}})
	ct, dt := w.pair(camera)
	var held []net.Conn
	for range 8 {
		held = append(held, w.send(nil))
	}
	w.eventually("all counted", func(c Counters) bool { return c.Unjoined == 8 })
	w.isClosed("the ninth", w.send(nil))
	held[0].Close()
	w.eventually("one is gone", func(c Counters) bool { return c.Unjoined == 7 })
	client := w.dial(ct)
	w.waits(1)
	held[1].Close()
	w.eventually("one is gone", func(c Counters) bool { return c.Unjoined == 7 })
	w.carries(client, w.dial(dt))
	w.eventually("joined ones do not count", func(c Counters) bool { return c.Unjoined == 6 })
	if c := w.Counters(); c.Flooded != 1 {
		t.Errorf("counted %+v", c)
	}
}

// Whoever says nothing makes room for those who have a ticket.
func TestFloodOfSilentLegs(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{Unjoined: 4, UnjoinedPerSource: 1000}})
	ct, dt := w.pair(camera)
	client := w.dial(ct)
	w.waits(1)
	for range 100 {
		w.send(nil)
	}
	w.eventually("all but three evicted", func(c Counters) bool { return c.Flooded == 97 && c.Unjoined == 4 })
	w.carries(client, w.dial(dt))
}

func TestPairsAreBounded(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{Pairs: 5, PairsPerDevice: 3}})
	for range 3 {
		w.pair(camera)
	}
	if _, _, err := w.Pair(camera, time.Minute, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a fourth pair of one device: %v", err)
	}
	w.pair(Who{Device: "gate"})
	w.pair(Who{Device: "gate"})
	if _, _, err := w.Pair(Who{Device: "lamp"}, time.Minute, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a sixth pair: %v", err)
	}
	if c := w.Counters(); c.Pairs != 5 || c.Refused != 2 {
		t.Errorf("counted %+v", c)
	}
}

func TestTunnelsAreBounded(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{Tunnels: 1}})
	ct, dt := w.pair(camera)
	client, device := w.joined(camera)
	if _, _, err := w.Pair(camera, time.Minute, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a pair while full: %v", err)
	}
	refused := []net.Conn{w.dial(ct), w.dial(dt)}
	w.isClosed("one too many", refused[0])
	w.isClosed("one too many", refused[1])
	if u := w.use(); u.Why != WhyFull {
		t.Errorf("ended by %q", u.Why)
	}
	w.carries(client, device)
}
