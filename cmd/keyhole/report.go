package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// report tells the person what went wrong and what to type next, and returns the
// exit code.
func (a *app) report(err error) int {
	if err == nil {
		return control.ExitDone
	}
	var silent errSilent
	if errors.As(err, &silent) {
		return int(silent)
	}
	code, what, try := explain(err)
	fmt.Fprintln(a.err, "keyhole: "+plain(what))
	for _, t := range try {
		fmt.Fprintln(a.err, "Try: "+plain(t))
	}
	return code
}

// explain says what an error means: exit code, what happened and why, and the
// commands that may help.
func explain(err error) (code int, what string, try []string) {
	var usage *usageError
	var missing *client.NotFoundError
	var many *client.AmbiguousError
	var wrong *identity.MismatchError
	var away *client.UnreachableError
	var no *client.NotIntroducedError
	var name *client.NameError
	var target *client.TargetError
	var problem *api.Problem
	switch {
	case errors.As(err, &target):
		return control.ExitUsage, err.Error(), []string{"keyhole devices"}
	case errors.As(err, &usage):
		return control.ExitUsage, usage.text, []string{usage.command + " --help"}
	case errors.As(err, &missing):
		if missing.Typed == "" {
			return control.ExitNotFound, err.Error(), []string{"keyhole pair    (after pressing the device's pair button)"}
		}
		return control.ExitNotFound, err.Error(), []string{"keyhole devices"}
	case errors.As(err, &many):
		for _, d := range many.Devices {
			try = append(try, string(d.ID)+"    ("+d.Name+")")
		}
		return control.ExitUsage, err.Error(), try[:min(len(try), 10)]
	case errors.Is(err, client.ErrBasestation):
		return control.ExitNotReachable, flat(err) + ". Nothing was sent to whom it leads to",
			[]string{"keyhole doctor", "ask who runs the basestation; there is no need to pair anew"}
	case errors.As(err, &wrong):
		return control.ExitRefused, "another device answers: " + wrong.Error() + ". Nothing was sent to it",
			[]string{"keyhole doctor", "keyhole forget, then keyhole pair    (only if your device was reset and made a new key)"}
	case errors.As(err, &no) && no.Offline:
		return control.ExitNotReachable, awayWords(err, no), []string{"keyhole doctor    (when it should be on: is it, and has it a network?)"}
	case errors.As(err, &away):
		return control.ExitNotReachable, err.Error(), []string{"keyhole doctor    (says how far it gets)"}
	case errors.As(err, &name):
		return control.ExitUsage, err.Error(), []string{`keyhole pair --as "Alice" --name "Alice's laptop"`}
	case errors.Is(err, client.ErrWindowClosed):
		return control.ExitRefused, err.Error(), []string{"press the device's pair button, then: keyhole pair"}
	case errors.Is(err, client.ErrNoMode):
		return control.ExitRefused, err.Error(), nil
	case errors.Is(err, client.ErrWrongCode):
		return control.ExitRefused, err.Error(), []string{"keyhole pair    (look at the display again; after two wrong codes press the pair button for a new one)"}
	case errors.Is(err, client.ErrCodeNeeded):
		return control.ExitUsage, err.Error(), []string{`keyhole pair --code "1234 5678"    (the digits on the display)`, `keyhole pair --code 7K3MN-Q8ZTA    (the code on the label)`}
	case errors.Is(err, client.ErrNotLabel), errors.Is(err, client.ErrNotEither):
		return control.ExitUsage, err.Error(), []string{`keyhole pair --code 7K3MN-Q8ZTA`}
	case errors.Is(err, client.ErrNotOffered):
		return control.ExitRefused, err.Error(), []string{"keyhole pair    (asks for what the device takes)"}
	case errors.Is(err, client.ErrNotLink):
		return control.ExitUsage, err.Error(), []string{"keyhole pair LINK    (the whole of it, in quotes: mail programs break lines)"}
	case errors.Is(err, client.ErrInvite):
		return control.ExitRefused, err.Error(), []string{"ask who invited you for another: keyhole invite"}
	case errors.Is(err, client.ErrNotCode):
		return control.ExitUsage, err.Error(), []string{`keyhole pair --code "1234 5678"`}
	case errors.Is(err, client.ErrNoCertificate):
		return control.ExitNotFound, err.Error(), []string{"keyhole certificate request    (for your authority to sign)"}
	case errors.Is(err, client.ErrNoneOfThisKey):
		return control.ExitFailed, err.Error(), []string{"keyhole certificate request    (and have that signed)"}
	case errors.Is(err, client.ErrNoCall):
		return control.ExitNotFound, err.Error(), []string{"keyhole support    (with a number that is on the display now: each is good for 5 minutes; after some wrong ones, wait)"}
	case errors.Is(err, client.ErrNotCallNumber), errors.Is(err, client.ErrNotSupportCode):
		return control.ExitUsage, err.Error(), []string{"keyhole support --help"}
	case errors.Is(err, client.ErrNoSupportCode), errors.Is(err, client.ErrWrongSupportCode):
		return control.ExitRefused, err.Error(), []string{"keyhole support    (look at the display again; after three wrong codes the support button must be pressed for a new one)"}
	case errors.Is(err, client.ErrVendorKeyNeeded):
		return control.ExitRefused, err.Error(), []string{"keyhole support --vendor-key FILE"}
	case errors.Is(err, errSupportOver):
		return control.ExitRefused, err.Error(), nil
	case errors.Is(err, client.ErrBadPath), errors.Is(err, client.ErrNotAddress), errors.Is(err, session.ErrBadService):
		return control.ExitUsage, err.Error(), nil
	case errors.As(err, &problem):
		return explainProblem(problem)
	case errors.Is(err, context.Canceled):
		return control.ExitFailed, errInterrupted.Error(), nil
	case errors.Is(err, context.DeadlineExceeded):
		return control.ExitNotReachable, "no answer in time", []string{"keyhole doctor"}
	}
	return control.ExitFailed, flat(err), nil
}

// flat is an error in one line.
func flat(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// awayWords keeps to what matters of a device that is known to be off.
func awayWords(err error, no *client.NotIntroducedError) string {
	var away *client.UnreachableError
	if errors.As(err, &away) {
		return away.Device + " cannot be reached: " + no.Error()
	}
	return no.Error()
}

// explainProblem is for what the device itself has answered.
func explainProblem(p *api.Problem) (code int, what string, try []string) {
	switch p.Code() {
	case api.CodeServiceDown:
		return control.ExitNotReachable, p.Error(), []string{"keyhole doctor    (asks every service)"}
	case api.CodeClosed, api.CodeAborted:
		return control.ExitRefused, p.Error(), []string{"press the device's pair button, then: keyhole pair"}
	case api.CodeNameTaken:
		if p.Suggestion != "" {
			try = []string{fmt.Sprintf("the same with the name %q; when pairing: keyhole pair --as %q", p.Suggestion, p.Suggestion)}
		}
		return control.ExitRefused, p.Error(), try
	case api.CodeTimeout:
		return control.ExitFailed, p.Error(), []string{"press the device's pair button, then: keyhole pair"}
	case api.CodeUnavailable:
		return control.ExitFailed, p.Error(), nil
	case api.CodeForbidden:
		return control.ExitRefused, p.Error(), []string{"keyhole users    (shows what you are to the device)"}
	}
	return control.ExitCode(p), p.Error(), nil
}
