package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/api"
)

// maxTokenBytes is more than any token of ours has.
const maxTokenBytes = 128

// withToken lets requests through whose bearer token has the scope. Tokens are
// found by their hash: what a comparison could tell by its time is of the hash
// of what the caller sent, not of a token.
func (s *Server) withToken(scope string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		kind, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(kind, "Bearer") || text == "" || len(text) > maxTokenBytes || len(r.Header.Values("Authorization")) != 1 {
			s.unauthorized(w, "send Authorization: Bearer and a token of `keyhole-basestation token create`")
			return
		}
		token, err := s.Records.UseToken(r.Context(), text)
		switch {
		case errors.Is(err, registry.ErrToken):
			s.unauthorized(w, "the token is unknown, used up or past its time")
		case err != nil:
			s.refuse(w, r, err)
		case token.Scope != ScopeWrite && token.Scope != scope:
			api.WriteProblem(w, api.Problemf(api.CodeForbidden, "the token is for reading: this needs the scope %q", scope))
		default:
			if r.Method != http.MethodGet {
				s.Log.Info("operator", "token", token.Name, "token_id", token.Hash[:8], "method", r.Method, "path", r.URL.Path)
			}
			next(w, r)
		}
	}
}

func (s *Server) unauthorized(w http.ResponseWriter, detail string) {
	s.counts.unauthorized.Inc()
	w.Header().Set("WWW-Authenticate", "Bearer")
	api.WriteProblem(w, api.Problemf(api.CodeToken, "%s", detail))
}

// refuse tells the caller what it may know of err; the log keeps the rest.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var problem *api.Problem
	switch {
	case errors.As(err, &problem):
	case errors.Is(err, store.ErrNotFound):
		problem = api.Problemf(api.CodeNotFound, "there is no such record")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		problem = api.Problemf(api.CodeUnavailable, "the store does not answer")
	case r.Context().Err() != nil:
		return // the caller has gone
	default:
		problem = api.Problemf(api.CodeInternal, "see the log of the basestation")
	}
	if problem.Status >= 500 {
		s.Log.Error("a request of the API failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	api.WriteProblem(w, problem)
}
