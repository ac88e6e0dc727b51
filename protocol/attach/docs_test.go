package attach

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/pace"
)

// docs/attach.md says what the code does: kinds, first bytes, sizes and limits.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/attach.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	want := map[string]string{
		"largest packet":      "at most " + thousands(MaxPacket) + " bytes",
		"largest body":        "CBOR body up to " + thousands(MaxBody),
		"LOCATE":              fmt.Sprintf("| 0x%02x | LOCATE | %d |", kindLocate, locateSize),
		"LOCATED":             fmt.Sprintf("| 0x%02x | LOCATED | %d to %d |", kindLocated, locatedHead+minCertificate, locatedHead+maxCertificate),
		"HELLO":               fmt.Sprintf("| 0x%02x | HELLO | %d |", kindHello, helloSize),
		"WELCOME":             fmt.Sprintf("| 0x%02x | WELCOME | %d |", kindWelcome, welcomeSize),
		"RETRY":               fmt.Sprintf("| 0x%02x | RETRY | %d |", kindRetry, retrySize),
		"sealed":              fmt.Sprintf("| 0x%02x, 0x%02x | sealed, to and from the node | %d to %s |", kindToNode, kindFromNode, minPacket, thousands(MaxPacket)),
		"RESET":               fmt.Sprintf("| 0x%02x | RESET | %d |", kindReset, resetSize),
		"punch":               fmt.Sprintf("| 0x%02x | punch | %d |", kindPunch, PunchSize),
		"attach stream":       fmt.Sprintf("| 0x%02x | attach | version %d", byte(StreamAttach), streamVersion),
		"relay stream":        fmt.Sprintf("| 0x%02x | relay | version %d", byte(StreamRelay), streamVersion),
		"observe stream":      fmt.Sprintf("| 0x%02x | observe | version %d", byte(StreamObserve), streamVersion),
		"TLS":                 fmt.Sprintf("| 0x%02x | TLS |", byte(StreamTLS)),
		"handshakes":          fmt.Sprintf("%s in all, %d of one source", thousands(maxPending), maxPendingPerSource),
		"strangers":           fmt.Sprintf("%s a second to one source, %d s of it at once; counted in %s buckets", thousands(strangersPerSecond), burstSeconds, thousands(pace.Keys)),
		"greetings":           fmt.Sprintf("%d a second of one source, %d s of it at once", greetingsPerSecond, burstSeconds),
		"clients":             fmt.Sprintf("%s in all, %s of one source; forgotten after %.0f s", thousands(maxClients), thousands(maxClientsPerSource), clientTime.Seconds()),
		"grace":               fmt.Sprintf("has %.0f s to", lostGrace.Seconds()),
		"event":               fmt.Sprintf("2 kind up to %d, 3 data up to %d", maxEventKind, maxEventData),
		"grant":               fmt.Sprintf("grant of the vendor up to %d", maxGrant),
		"pass":                fmt.Sprintf("at most %d bytes", maxPass),
		"candidates":          fmt.Sprintf("4 candidates, up to %d", maxCandidates),
		"waiting":             fmt.Sprintf("at most %d wait", maxWaiting),
		"peers in one stream": fmt.Sprintf("| peers in one stream | %d |", maxStreamPeers),
	}
	for kind, name := range kindNames {
		want[name+" by number"] = fmt.Sprintf("| %d | %s |", kind, name)
	}
	for what, words := range want {
		if !strings.Contains(text, words) {
			t.Errorf("%s: docs/attach.md does not say %q", what, words)
		}
	}
	if s := Kind(99).String(); s != "kind 99" {
		t.Errorf("an unknown kind is %q", s)
	}
}

// thousands is a number as the page writes it.
func thousands(n int) string {
	s := strconv.Itoa(n)
	if len(s) > 3 {
		s = s[:len(s)-3] + "," + s[len(s)-3:]
	}
	return s
}
