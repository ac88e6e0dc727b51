package admin

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/protocol/api"
)

const (
	maxTokens       = 10_000 // more is a program gone wrong
	maxTokenName    = 64
	maxTokenUses    = 1_000_000_000
	maxTokenSeconds = 10 * 366 * 24 * 3600
)

func (s *Server) listTokens(w http.ResponseWriter, r *http.Request) error {
	answer := Tokens{Tokens: []Token{}}
	err := s.Records.Tokens(r.Context(), func(t registry.Token) error {
		shown := Token{ID: t.Hash, Name: t.Name, Scope: t.Scope, Created: t.Created, Uses: t.Uses}
		if !t.Expires.IsZero() {
			shown.Expires = &t.Expires
		}
		answer.Tokens = append(answer.Tokens, shown)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(answer.Tokens, func(a, b Token) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	api.WriteJSON(w, answer)
	return nil
}

func (s *Server) addToken(w http.ResponseWriter, r *http.Request) error {
	var in TokenAdd
	if err := decode(w, r, &in); err != nil {
		return err
	}
	t := registry.Token{Name: in.Name, Scope: in.Scope, Uses: in.Uses}
	switch {
	case in.Scope != ScopeRead && in.Scope != ScopeWrite:
		return api.Problemf(api.CodeMalformed, "scope: want %q or %q", ScopeRead, ScopeWrite)
	case len(in.Name) > maxTokenName:
		return api.Problemf(api.CodeMalformed, "name: %d bytes, at most %d", len(in.Name), maxTokenName)
	case in.Uses < 0 || in.Uses > maxTokenUses:
		return api.Problemf(api.CodeMalformed, "uses: want 0 to %d", maxTokenUses)
	case in.Seconds < 0 || in.Seconds > maxTokenSeconds:
		return api.Problemf(api.CodeMalformed, "seconds: want 0 to %d", maxTokenSeconds)
	case in.Seconds > 0:
		t.Expires = time.Now().UTC().Truncate(time.Second).Add(time.Duration(in.Seconds) * time.Second)
	}
	n, now := 0, time.Now()
	err := s.Records.Tokens(r.Context(), func(old registry.Token) error {
		if !old.Expires.IsZero() && now.After(old.Expires) {
			return s.Records.RemoveToken(r.Context(), old.Hash) // nobody else does
		}
		n++
		return nil
	})
	if err != nil {
		return err
	}
	if n >= maxTokens {
		return api.Problemf(api.CodeConflict, "there are %d tokens: remove some", n)
	}
	text, err := s.Records.CreateToken(r.Context(), t)
	if err != nil {
		return err
	}
	api.WriteJSON(w, TokenMade{ID: hashOf(text), Token: text})
	return nil
}

func (s *Server) removeToken(w http.ResponseWriter, r *http.Request) error {
	err := s.Records.RemoveToken(r.Context(), r.PathValue("id"))
	if errors.Is(err, registry.ErrToken) {
		err = api.Problemf(api.CodeNotFound, "there is no such token")
	}
	return done(w, err)
}
