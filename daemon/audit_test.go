package daemon

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// The export comes by either way of asking, on both paths, whole and in parts, and
// is checked by the device's id alone. Who may not read the log gets none of it.
func TestAuditExport(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	d.enter(t, "Bob & <Co>", acl.RoleViewer)
	for _, path := range bothPaths {
		p := d.dial(t, owner.key, path)
		for _, after := range []string{"", "&after=3"} {
			answer, body := p.ask(http.MethodGet, "/v1/audit?format=jsonl"+after, nil)
			if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != api.MediaJSONLines {
				t.Fatalf("%s: %s %s", path, answer.Status, answer.Header.Get("Content-Type"))
			}
			v, err := acl.VerifyExport(bytes.NewReader(body), d.ID())
			if err != nil || v.Bad != nil || v.Witnessed != v.Last || (after == "") != (v.First == 1) {
				t.Errorf("%s: %+v, %v, %v", path, v, v.Bad, err)
			}
			if !strings.Contains(string(body), "Bob & <Co>") {
				t.Errorf("names are not as they were signed: %s", body)
			}
		}
	}
	r, err := http.NewRequest(http.MethodGet, "https://device/v1/audit", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", api.MediaJSONLines+", application/json;q=0.5")
	answer, err := owner.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.Header.Get("Content-Type") != api.MediaJSONLines {
		t.Errorf("with Accept: %s", answer.Header.Get("Content-Type"))
	}
	wantCode(t, "another format", owner.tryCall("GET", "/v1/audit?format=xml", nil, nil), api.CodeMalformed)
	for _, role := range []string{acl.RoleViewer, acl.RoleGuest} {
		p := d.member(t, "A "+role, role, session.PathTCP)
		for _, query := range []string{"", "?format=jsonl", "?after=1"} {
			answer, body := p.ask(http.MethodGet, "/v1/audit"+query, nil)
			if answer.StatusCode != http.StatusForbidden || bytes.Contains(body, []byte("paired")) {
				t.Errorf("%s: %s %s", role, answer.Status, body)
			}
		}
	}
}

// Only so many read the whole log at once; pages go on.
func TestExportsAreBounded(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	for range maxExports {
		d.exports <- struct{}{}
	}
	wantCode(t, "one too many", owner.tryCall("GET", "/v1/audit?format=jsonl", nil, nil), api.CodeLimit)
	var page api.Audit
	owner.call("GET", "/v1/audit?after=1&limit=1", nil, &page)
	if len(page.Entries) != 1 || page.Next != 2 {
		t.Errorf("%d entries, next %d", len(page.Entries), page.Next)
	}
	<-d.exports
	if answer, _ := owner.ask(http.MethodGet, "/v1/audit?format=jsonl", nil); answer.StatusCode != http.StatusOK {
		t.Error(answer.Status)
	}
}

// A log that lost a line while the device was off is in the warnings after the start,
// without anybody asking for it.
func TestDamagedLogIsToldOf(t *testing.T) {
	dir := shortDir(t)
	d := startIn(t, dir, text(dir, ""))
	d.owner(t)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "state", "audit", "000001.log")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	if err := os.WriteFile(file, bytes.Join(append(lines[:2:2], lines[3:]...), nil), 0o600); err != nil {
		t.Fatal(err)
	}
	d = startIn(t, dir, text(dir, ""))
	testnet.Eventually(t, "the damage is told", func() error {
		if w := strings.Join(d.warnings(), "\n"); !strings.Contains(w, "the audit log is not whole") {
			return fmt.Errorf("warnings: %s", w)
		}
		return nil
	})
}
