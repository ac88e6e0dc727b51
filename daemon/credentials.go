package daemon

import (
	"os"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/tunnel"
	"github.com/keyholed/keyhole/tunnel/inject"
)

// passwordRefused is told that a service refused the password that the device
// keeps for it. nil tells nobody.
type passwordRefused func(service string, r *inject.Refusal)

// withCredentials gives a service its password, where the configuration names a
// file for it.
func withCredentials(cfg *config.Config, s config.Service, parsed tunnel.Service, refused passwordRefused) (tunnel.Service, error) {
	if s.Credentials == "" {
		return parsed, nil
	}
	// Asked first without a password: what cannot have one needs no file.
	if _, err := parsed.WithCredentials(inject.Credentials{}, nil); err != nil {
		return parsed, err
	}
	// `keyholed check` is run by root as well: the file is right that belongs to
	// whom the device's key belongs to.
	users := []int{0, os.Geteuid()}
	if uid, ok := inject.Owner(cfg.Device.Identity); ok {
		users = append(users, uid)
	}
	c, err := inject.Load(s.Credentials, users...)
	if err != nil {
		return parsed, &tunnel.FieldError{Field: "credentials", Err: err}
	}
	return parsed.WithCredentials(c, func(r *inject.Refusal) {
		if refused != nil {
			refused(s.Name, r)
		}
	})
}

// passwordRefused writes it down: somebody changed the password at one of the
// two ends.
func (d *Daemon) passwordRefused(service string, r *inject.Refusal) {
	d.log.Warn("a service refuses the password that is kept for it", "service", service, "why", r.Why, "again_in", r.Wait.Round(time.Second))
	d.record(acl.Event{What: acl.WhatPassword, Service: service, Why: r.Why.Error()})
}
