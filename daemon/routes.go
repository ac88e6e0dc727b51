package daemon

import (
	"net/http"
	"slices"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/version"
	"github.com/keyholed/keyhole/protocol/api"
)

// A route is one remote operation: its description, the action it needs, and its
// handler. The OpenAPI document is made from the same table.
type route struct {
	api.Operation
	serve func(d *Daemon, w http.ResponseWriter, r *http.Request, c caller) error
}

// public marks the operations that strangers may ask. It is a name, so that
// nobody leaves the action out by accident.
const public = ""

// table returns everything a peer may ask for, CONNECT apart (connect.go).
func table() routes {
	return slices.Concat(supportRoutes(), routes{
		{api.Operation{Method: "GET", Path: "/v1/hello", Summary: "What anybody may know: who the device is and whether it can be paired with now.",
			Action: public, Answer: api.Hello{}}, (*Daemon).hello},
		{api.Operation{Method: "POST", Path: "/v1/pair/button", Summary: "Begin pairing in button mode.",
			Action: public, Request: api.ButtonBegin{}, Answer: api.ButtonChallenge{},
			Refuses: []api.Code{api.CodeClosed, api.CodeBusy, api.CodeAborted}}, (*Daemon).pairBegin},
		{api.Operation{Method: "POST", Path: "/v1/pair/button/reveal", Summary: "Reveal the nonce and wait for the press at the device.",
			Action: public, Request: api.ButtonReveal{}, Answer: api.Paired{},
			Refuses: []api.Code{api.CodeClosed, api.CodeAborted, api.CodeTimeout, api.CodeNameTaken, api.CodeUnavailable}}, (*Daemon).pairReveal},
		{api.Operation{Method: "POST", Path: "/v1/pair/code", Summary: "Begin pairing by the code on the display.",
			Action: public, Request: api.CodeBegin{}, Answer: api.CodeChallenge{},
			Refuses: []api.Code{api.CodeClosed, api.CodeBusy}}, (*Daemon).codeBegin},
		{api.Operation{Method: "POST", Path: "/v1/pair/code/confirm", Summary: "Prove the code, and be let in.",
			Action: public, Request: api.CodeConfirm{}, Answer: api.Paired{},
			Refuses: []api.Code{api.CodeClosed, api.CodeBusy, api.CodeNameTaken, api.CodeUnavailable}}, (*Daemon).codeConfirm},
		{api.Operation{Method: "GET", Path: "/v1/device", Summary: "The device's name, product and version.",
			Action: string(acl.ActionDevice), Answer: api.Device{}}, (*Daemon).device},
		{api.Operation{Method: "GET", Path: "/v1/services", Summary: "The services of the device, and whether the asker may connect.",
			Action: string(acl.ActionServices), Answer: api.Services{}}, (*Daemon).services},
		{api.Operation{Method: "GET", Path: "/v1/me", Summary: "Who the asker is to the device.",
			Action: string(acl.ActionMe), Answer: api.Me{}}, (*Daemon).me},
		{api.Operation{Method: "GET", Path: "/v1/users", Summary: "The people who may enter, with their keys; the asker alone, for who may not manage users.",
			Action: string(acl.ActionUsers), Answer: api.Users{}}, (*Daemon).users},
		{api.Operation{Method: "GET", Path: "/v1/users/{user}", Summary: "One of them, by name or fingerprint.",
			Action: string(acl.ActionUsers), Answer: api.User{}, Refuses: []api.Code{api.CodeNotFound}}, (*Daemon).userByName},
		{api.Operation{Method: "PATCH", Path: "/v1/users/{user}", Summary: "Give a user another role, name or end. Everybody may change the own name; for all else the action users is needed.",
			Action: string(acl.ActionUsers), Request: api.UserPatch{}, Answer: api.User{},
			Refuses: []api.Code{api.CodeNotFound, api.CodeConflict, api.CodeUnavailable}}, (*Daemon).patchUser},
		{api.Operation{Method: "DELETE", Path: "/v1/users/{user}", Summary: "Revoke a user, or one key by its fingerprint. Live sessions end before the answer.",
			Action: string(acl.ActionUsers), Answer: api.Revoked{},
			Refuses: []api.Code{api.CodeNotFound, api.CodeConflict, api.CodeUnavailable}}, (*Daemon).revokeUser},
		{api.Operation{Method: "POST", Path: "/v1/users/{user}/keys", Summary: "Add a key to the asker's own entry: his other device.",
			Action: string(acl.ActionUsers), Request: api.NewKey{}, Answer: api.User{},
			Refuses: []api.Code{api.CodeNotFound, api.CodeConflict, api.CodeUnavailable}}, (*Daemon).addKey},
		{api.Operation{Method: "PUT", Path: "/v1/users/{user}/grants/{service}", Summary: "Let a user use one service, whatever the role says.",
			Action: string(acl.ActionUsers), Request: api.Limits{}, Answer: api.User{},
			Refuses: []api.Code{api.CodeNotFound, api.CodeConflict, api.CodeUnavailable}}, (*Daemon).putGrant},
		{api.Operation{Method: "DELETE", Path: "/v1/users/{user}/grants/{service}", Summary: "Take that back.",
			Action: string(acl.ActionUsers), Answer: api.User{},
			Refuses: []api.Code{api.CodeNotFound, api.CodeUnavailable}}, (*Daemon).deleteGrant},
		{api.Operation{Method: "DELETE", Path: "/v1/blocked/{who}", Summary: "Let somebody in again who is no user and was revoked.",
			Action: string(acl.ActionUsers), Answer: api.Unblocked{},
			Refuses: []api.Code{api.CodeNotFound, api.CodeUnavailable}}, (*Daemon).unblock},
		{api.Operation{Method: "GET", Path: "/v1/roles", Summary: "The roles there are, and which of them the asker may give.",
			Action: string(acl.ActionUsers), Answer: api.Roles{}}, (*Daemon).listRoles},
		{api.Operation{Method: "GET", Path: "/v1/sessions", Summary: "Who is connected and what is being watched; of who may not see sessions only what is his own.",
			Action: string(acl.ActionMe), Answer: api.Sessions{}}, (*Daemon).sessions},
		{api.Operation{Method: "DELETE", Path: "/v1/sessions/{number}", Summary: "End a session and what is open in it: anybody's with the action sessions, one's own without.",
			Action: string(acl.ActionMe), Answer: api.SessionEnded{}, Refuses: []api.Code{api.CodeMalformed, api.CodeNotFound, api.CodeConflict}}, (*Daemon).endSession},
		{api.Operation{Method: "GET", Path: "/v1/audit", Summary: "A page of the audit log; with Accept: application/jsonl or format=jsonl all of it behind after, as it was signed, with a signed end.",
			Action: string(acl.ActionAudit), Answer: api.Audit{}, Refuses: []api.Code{api.CodeMalformed},
			Query: []api.Parameter{{Name: "after", Summary: "number of the last entry already seen"}, {Name: "limit", Summary: "entries a page, at most 1000"}},
			Words: []api.Parameter{{Name: "format", Summary: "json, or jsonl for an export"}}}, (*Daemon).audit},
		{api.Operation{Method: "GET", Path: "/v1/events", Summary: "What happens, as server-sent events, from now on.",
			Action: string(acl.ActionEvents), Answer: api.Event{}, Stream: "text/event-stream"}, (*Daemon).follow},
		{api.Operation{Method: "GET", Path: "/v1/settings", Summary: "What the owner has set.",
			Action: string(acl.ActionSettings), Answer: api.Settings{}}, (*Daemon).getSettings},
		{api.Operation{Method: "PATCH", Path: "/v1/settings", Summary: "Set something. Whom that puts out is out before the answer.",
			Action: string(acl.ActionSettings), Request: api.SettingsPatch{}, Answer: api.Settings{},
			Refuses: []api.Code{api.CodeConflict, api.CodeUnavailable}}, (*Daemon).patchSettings},
		{api.Operation{Method: "POST", Path: "/v1/reset", Summary: "Factory reset: erase who may enter and what the owner set. The device's key stays.",
			Action: string(acl.ActionReset), Request: api.Reset{}, Answer: api.ResetBegun{}, Refuses: []api.Code{api.CodeUnavailable}}, (*Daemon).resetByOwner},
		{api.Operation{Method: "GET", Path: "/v1/openapi.json", Summary: "This description.",
			Action: string(acl.ActionDevice), Answer: nil}, (*Daemon).openAPI},
	}, inviteRoutes(), labelRoutes())
}

// openAPI serves the description of the table above.
func (d *Daemon) openAPI(w http.ResponseWriter, _ *http.Request, _ caller) error {
	operations := make([]api.Operation, 0, len(d.routes))
	for _, r := range d.routes {
		operations = append(operations, r.Operation)
	}
	document, err := api.OpenAPI("Keyhole device", version.String(), operations)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(document)
	return ignoreGone(err)
}

// ignoreGone is for writing an answer: when that fails the peer has gone, and
// there is nobody left to tell.
func ignoreGone(error) error { return nil }
