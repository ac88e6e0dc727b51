package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
)

// readyTimeout is less than a load balancer waits.
const readyTimeout = 2 * time.Second

func (s *Server) health(w http.ResponseWriter, _ *http.Request) error { return done(w, nil) }

func (s *Server) readiness(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.Config.Ready(ctx); err != nil {
		s.Log.Debug("not ready", "error", err)
		return api.Problemf(api.CodeUnavailable, "not ready")
	}
	return done(w, nil)
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.document) // an error means that the caller has gone
	return nil
}

func (s *Server) about(w http.ResponseWriter, _ *http.Request) error {
	about := s.About()
	about.Version = s.Version
	api.WriteJSON(w, about)
	return nil
}

func (s *Server) nodes(w http.ResponseWriter, _ *http.Request) error {
	about := s.About()
	answer := Nodes{Nodes: []Node{{ID: about.Node, Addresses: about.Addresses, Self: true}}}
	if s.Nodes != nil {
		answer.Nodes = append([]Node{}, s.Nodes()...)
	}
	api.WriteJSON(w, answer)
	return nil
}

// hashOf names a token.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
