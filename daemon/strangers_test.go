package daemon

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// lockedPage is a web service with a password of its own.
func lockedPage(t testing.TB, user, password string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="camera"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, "the picture")
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

const application = "access = \"application\"\n"

// get asks through a tunnel, with a password unless it is "".
func get(t testing.TB, s session.Stream, password string) int {
	t.Helper()
	request := "GET / HTTP/1.1\r\nHost: camera\r\n"
	if password != "" {
		request += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password)) + "\r\n"
	}
	if _, err := fmt.Fprint(s, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

func TestAnybodyMayAskAServiceThatAuthenticatesByItself(t *testing.T) {
	page := lockedPage(t, "admin", "secret")
	d := startDevice(t, serviceTOML("page", "http", page)+application+serviceTOML("inside", "http", page))
	d.owner(t)
	for _, path := range bothPaths {
		p := d.dial(t, newKey(t), path)
		if status := get(t, p.connect("page"), ""); status != 401 {
			t.Errorf("%s: without a password: %d", path, status)
		}
		if status := get(t, p.connect("page"), "secret"); status != 200 {
			t.Errorf("%s: with the password: %d", path, status)
		}
		var list api.Services
		p.call("GET", "/v1/services", nil, &list)
		if len(list.Services) != 1 || list.Services[0].Name != "page" || !list.Services[0].Allowed {
			t.Errorf("a stranger is told of %+v", list.Services)
		}
		for _, name := range []string{"inside", "nothing"} {
			if err := p.refused(name); err == nil || err.Error() != stranger.Error() {
				t.Errorf("%s: a stranger at %q: %v", path, name, err)
			}
		}
		wantCode(t, "a stranger and the device", p.tryCall("GET", "/v1/device", nil, nil), api.CodeForbidden)
	}
}
