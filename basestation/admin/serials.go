package admin

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
)

func serialOf(r *http.Request) (string, error) {
	serial := r.PathValue("serial")
	if serial == "" || len(serial) > maxSerialBytes {
		return "", api.Problemf(api.CodeMalformed, "serial: want 1 to %d bytes", maxSerialBytes)
	}
	return serial, nil
}

func (s *Server) showSerial(w http.ResponseWriter, r *http.Request) error {
	serial, err := serialOf(r)
	if err != nil {
		return err
	}
	answer := Serial{Serial: serial}
	if _, answer.Secret, err = s.Records.Secret(r.Context(), serial); err != nil {
		return err
	}
	bound, err := s.Records.Bound(r.Context(), serial)
	switch {
	case err == nil:
		answer.Bound = bound.ID()
	case !errors.Is(err, store.ErrNotFound):
		return err
	case !answer.Secret:
		return api.Problemf(api.CodeNotFound, "nothing is known of this serial number")
	}
	api.WriteJSON(w, answer)
	return nil
}

func (s *Server) putSerial(w http.ResponseWriter, r *http.Request) error {
	serial, err := serialOf(r)
	if err != nil {
		return err
	}
	var in SerialPut
	if err := decode(w, r, &in); err != nil {
		return err
	}
	var secret attach.Secret
	if in.Secret == "" {
		_, _ = rand.Read(secret[:]) // never fails
	} else if b, err := hex.DecodeString(in.Secret); err != nil || len(b) != len(secret) {
		return api.Problemf(api.CodeMalformed, "secret: want 64 hexadecimal digits")
	} else {
		copy(secret[:], b)
	}
	if err := s.Records.PutSecret(r.Context(), serial, secret); err != nil {
		return err
	}
	api.WriteJSON(w, SerialSecret{Serial: serial, Secret: hex.EncodeToString(secret[:])})
	return nil
}

func (s *Server) removeSerial(w http.ResponseWriter, r *http.Request) error {
	serial, err := serialOf(r)
	if err == nil {
		err = errors.Join(s.Records.RemoveSecret(r.Context(), serial), s.Records.Reopen(r.Context(), serial))
	}
	return done(w, err)
}

func (s *Server) reopenSerial(w http.ResponseWriter, r *http.Request) error {
	serial, err := serialOf(r)
	if err == nil {
		err = s.Records.Reopen(r.Context(), serial)
	}
	return done(w, err)
}
