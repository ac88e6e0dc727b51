package admin

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
)

func serialOf(r *http.Request) (string, error) {
	serial := r.PathValue("serial")
	if serial == "" || len(serial) > maxSerialBytes || strings.ContainsFunc(serial, unprintable) {
		return "", api.Problemf(api.CodeMalformed, "serial: want 1 to %d bytes of printable text", maxSerialBytes)
	}
	return serial, nil
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }

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
	_, known, err := s.Records.Secret(r.Context(), serial)
	switch {
	case err != nil:
		return err
	case known && !in.Replace:
		return api.Problemf(api.CodeConflict, "this serial number has a secret, and the device that holds it could never attach again with another: remove the serial number first, or send \"replace\": true")
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
