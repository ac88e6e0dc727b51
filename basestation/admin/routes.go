package admin

import (
	"net/http"
	"strconv"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
)

// A route is one operation with its handler. Action is the scope that a token
// must have, "" is open to everybody: a route without either word does not exist.
type route struct {
	api.Operation
	answer func(s *Server, w http.ResponseWriter, r *http.Request) error
	stream bool // lasts: has slots of its own and no write deadline
}

var routes = []route{
	{answer: (*Server).health, Operation: api.Operation{Method: "GET", Path: "/healthz", Summary: "Whether the process lives.", Answer: Done{}}},
	{answer: (*Server).readiness, Operation: api.Operation{Method: "GET", Path: "/readyz", Summary: "Whether this node can serve; 503 says that it cannot.", Answer: Done{}, Refuses: []api.Code{api.CodeUnavailable}}},
	{answer: (*Server).openAPI, Operation: api.Operation{Method: "GET", Path: "/v1/openapi.json", Summary: "This document."}},
	{answer: (*Server).showMetrics, Operation: api.Operation{Method: "GET", Path: "/metrics", Summary: "Metrics in Prometheus' text format.", Action: ScopeRead}},
	{answer: (*Server).about, Operation: api.Operation{Method: "GET", Path: "/v1/basestation", Summary: "Who this basestation is.", Action: ScopeRead, Answer: About{}}},
	{answer: (*Server).nodes, Operation: api.Operation{Method: "GET", Path: "/v1/nodes", Summary: "The live nodes of the fleet.", Action: ScopeRead, Answer: Nodes{}}},
	{answer: (*Server).events, stream: true, Operation: api.Operation{Method: "GET", Path: "/v1/events", Summary: "What happens from now on, as server-sent events; what was missed is in the log of a webhook.",
		Action: ScopeRead, Words: []api.Parameter{{Name: "device", Summary: "only of the device with this id"}}, Answer: Event{}, Stream: "text/event-stream", Refuses: []api.Code{api.CodeMalformed, api.CodeUnavailable}}},

	{answer: (*Server).listDevices, Operation: api.Operation{Method: "GET", Path: "/v1/devices", Summary: "Devices in the order of their ids, a page at a time.", Action: ScopeRead, Answer: Devices{},
		Query:   []api.Parameter{{Name: "limit", Summary: "devices in a page, 1 to 100,000; 1,000 if absent"}},
		Words:   []api.Parameter{{Name: "after", Summary: "the id behind which the page begins: next of the page before"}, {Name: "state", Summary: "only those attached, gone or registered"}},
		Refuses: []api.Code{api.CodeMalformed}}},
	{answer: (*Server).addDevice, Operation: api.Operation{Method: "POST", Path: "/v1/devices", Summary: "Register a device: listed enrolment welcomes it then.", Action: ScopeWrite, Request: DeviceAdd{}, Answer: Device{}}},
	{answer: (*Server).showDevice, Operation: api.Operation{Method: "GET", Path: "/v1/devices/{id}", Summary: "One device.", Action: ScopeRead, Answer: Device{}, Refuses: []api.Code{api.CodeNotFound}}},
	{answer: (*Server).removeDevice, Operation: api.Operation{Method: "DELETE", Path: "/v1/devices/{id}", Summary: "Forget a device and the binding of its serial number. A block stays.", Action: ScopeWrite, Answer: Done{}, Refuses: []api.Code{api.CodeNotFound}}},
	{answer: (*Server).blockDevice, Operation: api.Operation{Method: "PUT", Path: "/v1/devices/{id}/block", Summary: "Keep a device from attaching; its link is closed.", Action: ScopeWrite, Request: BlockAdd{}, Answer: Done{}, Refuses: []api.Code{api.CodeNotFound}}},
	{answer: (*Server).unblockDevice, Operation: api.Operation{Method: "DELETE", Path: "/v1/devices/{id}/block", Summary: "Let it attach again.", Action: ScopeWrite, Answer: Done{}, Refuses: []api.Code{api.CodeNotFound}}},

	{answer: (*Server).showSerial, Operation: api.Operation{Method: "GET", Path: "/v1/serials/{serial}", Summary: "What is known of a serial number.", Action: ScopeRead, Answer: Serial{}, Refuses: []api.Code{api.CodeMalformed, api.CodeNotFound}}},
	{answer: (*Server).putSerial, Operation: api.Operation{Method: "PUT", Path: "/v1/serials/{serial}", Summary: "Store the factory secret of a serial number. The answer shows it, once.", Action: ScopeWrite, Request: SerialPut{}, Answer: SerialSecret{}, Refuses: []api.Code{api.CodeMalformed, api.CodeConflict}}},
	{answer: (*Server).removeSerial, Operation: api.Operation{Method: "DELETE", Path: "/v1/serials/{serial}", Summary: "Forget the stored secret and the binding of a serial number.", Action: ScopeWrite, Answer: Done{}, Refuses: []api.Code{api.CodeMalformed}}},
	{answer: (*Server).reopenSerial, Operation: api.Operation{Method: "DELETE", Path: "/v1/serials/{serial}/binding", Summary: "Forget which key a serial number is bound to: the next attach with its secret binds another.", Action: ScopeWrite, Answer: Done{}, Refuses: []api.Code{api.CodeMalformed}}},

	{answer: (*Server).listTokens, Operation: api.Operation{Method: "GET", Path: "/v1/tokens", Summary: "The tokens that let in.", Action: ScopeWrite, Answer: Tokens{}}},
	{answer: (*Server).addToken, Operation: api.Operation{Method: "POST", Path: "/v1/tokens", Summary: "Make a token. The answer shows it, once.", Action: ScopeWrite, Request: TokenAdd{}, Answer: TokenMade{}}},
	{answer: (*Server).removeToken, Operation: api.Operation{Method: "DELETE", Path: "/v1/tokens/{id}", Summary: "End a token.", Action: ScopeWrite, Answer: Done{}, Refuses: []api.Code{api.CodeNotFound}}},
}

// describe makes the OpenAPI document.
func describe(version string) ([]byte, error) {
	var operations []api.Operation
	for _, r := range routes {
		operations = append(operations, r.Operation)
		if r.Action != "" {
			// Tokens are in the store, so all of these fail while it does not answer.
			operations[len(operations)-1].Refuses = append([]api.Code{api.CodeToken, api.CodeUnavailable}, r.Refuses...)
		}
	}
	return api.Document{
		Title: "Keyhole basestation", Version: version, Operations: operations, Scheme: "token",
		Security: map[string]any{"type": "http", "scheme": "bearer", "description": "made by keyhole-basestation token create"},
	}.JSON()
}

// Handler answers over the network: who has no token sees nothing but whether
// the node lives and what the API is.
func (s *Server) Handler() http.Handler { return s.mux(s.withToken) }

// LocalHandler answers over the Unix socket, which only its owner and root can
// open, and asks for no token.
func (s *Server) LocalHandler() http.Handler {
	return s.mux(func(_ string, next http.HandlerFunc) http.HandlerFunc { return next })
}

func (s *Server) mux(guard func(scope string, next http.HandlerFunc) http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	methods := map[string]string{}
	for _, r := range routes {
		handler := s.measured(r)
		if r.Action != "" {
			handler = guard(r.Action, handler)
		}
		mux.HandleFunc(r.Method+" "+r.Path, s.limited(r, handler))
		methods[r.Path] += " " + r.Method
	}
	for path, allowed := range methods {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			api.WriteProblem(w, api.Problemf(api.CodeMethod, "%s is not for this; there is%s", clip(r.Method), allowed))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		api.WriteProblem(w, api.Problemf(api.CodeNotFound, "there is nothing here; see /v1/openapi.json"))
	})
	return mux
}

// limited bounds what is answered at once.
func (s *Server) limited(r route, next http.HandlerFunc) http.HandlerFunc {
	slots := s.slots
	if r.stream {
		slots = s.streams
	}
	return func(w http.ResponseWriter, req *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			if req.Body != http.NoBody {
				deadline(w, readTimeout)
			}
			next(w, req)
		default:
			w.Header().Set("Retry-After", "1")
			api.WriteProblem(w, api.Problemf(api.CodeLimit, "too many requests are under way"))
		}
	}
}

// deadline bounds the reading of a body. The server's own bound would end an
// answer that takes longer as well: its reading of the connection goes on behind
// the request, and takes a passed deadline for a caller that has gone.
func deadline(w http.ResponseWriter, after time.Duration) {
	var t time.Time
	if after > 0 {
		t = time.Now().Add(after)
	}
	_ = http.NewResponseController(w).SetReadDeadline(t) // a test's recorder has none
}

// decode reads the body of a request strictly.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	defer deadline(w, 0)
	return api.DecodeRequest(w, r, into)
}

// measured answers, turns errors into problem documents, and counts both.
func (s *Server) measured(r route) http.HandlerFunc {
	took, failed := s.counts.took[r.Method+" "+r.Path], s.counts.failed[r.Method+" "+r.Path]
	return func(w http.ResponseWriter, req *http.Request) {
		begin := time.Now()
		if err := r.answer(s, w, req); err != nil {
			failed.Inc()
			s.refuse(w, req, err)
		}
		if !r.stream {
			took.UpdateDuration(begin)
		}
	}
}

// clip keeps a stranger's text short in an answer.
func clip(text string) string {
	const most = 64
	return strconv.Quote(text[:min(len(text), most)])
}
