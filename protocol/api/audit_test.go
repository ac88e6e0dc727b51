package api

import (
	"strings"
	"testing"
	"time"
)

func TestAuditLinesForPeople(t *testing.T) {
	zone := time.FixedZone("here", 3600)
	for line, want := range map[string]string{
		`{"n":7,"time":"2026-03-01T10:00:00Z","what":"role changed","by":{"user":"Alice","fingerprint":"ab","via":"quic","way":"punched","source":"192.0.2.1:5"},"user":"Bob","role":"viewer","detail":"was admin"}`://
		"7|2026-03-01 11:00:00|Alice|role changed Bob as viewer|was admin, quic punched, from 192.0.2.1:5",
		`{"n":8,"time":"1970-01-01T00:00:09Z","clock_unset":true,"what":"pairing opened","by":{"via":"button"}}`://
		"8|1970-01-01 01:00:09*|button|pairing opened|button",
		`{"n":9,"time":"2026-03-01T10:00:00Z","what":"refused","kind":"stranger","fingerprint":"0123456789abcdef0123","action":"tunnel","path":"tcp","times":12,"why":"not on the access list"}`://
		"9|2026-03-01 11:00:00|stranger 0123456789abcdef|refused tunnel 12 times|tcp, not on the access list",
		`{"n":10,"time":"2026-03-01T10:00:00Z","what":"tunnel ended","user":"alice@example.net (authority)","kind":"authority","service":"cam","up":12,"down":34567,"ms":61234,"missed":3}`://
		"10|2026-03-01 11:00:00|alice@example.net (authority)|tunnel ended cam|12 B up, 34.6 kB down, 1m1.2s, 3 before it came too fast to be written",
		`{"n":11,"time":"2026-03-01T10:00:00Z","what":"command","by":{"user":"root","kind":"local","via":"control socket"},"result":"failed","why":"\u001b[2Jno","detail":"revoke Eve"}`://
		"11|2026-03-01 11:00:00|root (local)|command|revoke Eve, control socket, failed, ?[2Jno",
	} {
		l, err := ParseAuditLine([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(l.Columns(zone), "|"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if _, err := ParseAuditLine([]byte("x")); err == nil {
		t.Error("x is a line")
	}
}
