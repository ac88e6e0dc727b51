// Package acl is the access control list of a device: it answers one question,
// may this principal do this action on this service now, and keeps the list the
// answer comes from, with an audit log of every change.
//
// The daemon's dispatch asks it for every request; pairing enters people through
// the daemon; nobody else writes. It knows no network and no session: who a peer
// is has been proven before it is asked. It starts no goroutines.
//
// Deciding is a pure function of a list in memory that is never changed, only
// replaced; a decision touches no disk and no lock. Changing goes through one
// lock: the line of the audit log is synced first, then the new list is in
// force, then both copies of the store are written, then the call returns.
//
//	state/access.a.db, access.b.db   the list, twice, every value sealed
//	state/audit/000001.log …         the log: JSON lines, chained, signed
//	state/audit/checkpoint           the list as it was when old segments were dropped
//	state/ballast                    64 KiB that a revocation may have on a full disk
//	identity/store.key               the key the values are sealed with
package acl

// An Action is what somebody wants to do. The list is closed: what is not here
// cannot be asked for.
type Action string

// The actions. Each request of the device's API needs exactly one.
const (
	ActionHello     Action = "hello"     // read what strangers may read
	ActionDevice    Action = "device"    // read name, product, state of the device
	ActionServices  Action = "services"  // list the services one may use
	ActionMe        Action = "me"        // read, rename and complete one's own entry
	ActionTunnel    Action = "tunnel"    // connect to a service
	ActionUsers     Action = "users"     // read and change users, roles, invites
	ActionSettings  Action = "settings"  // read and change the owner's settings
	ActionEvents    Action = "events"    // follow events
	ActionAudit     Action = "audit"     // read the audit log
	ActionSessions  Action = "sessions"  // list and end sessions
	ActionFirmware  Action = "firmware"  // send new firmware
	ActionReset     Action = "reset"     // factory reset
	ActionProvision Action = "provision" // change serial, secret, basestation
)

// Actions lists every action, in the order of the constants.
var Actions = []Action{
	ActionHello, ActionDevice, ActionServices, ActionMe, ActionTunnel, ActionUsers, ActionSettings,
	ActionEvents, ActionAudit, ActionSessions, ActionFirmware, ActionReset, ActionProvision,
}

// bit returns the place of a in a set of actions, 0 for what is no action.
func (a Action) bit() actionSet {
	for i, known := range Actions {
		if a == known {
			return 1 << i
		}
	}
	return 0
}

type actionSet uint32

// A Decision is the answer with its reason. The reason is for the log and for
// whoever may know it; a stranger is told the same in every case.
type Decision struct {
	Allow bool
	Why   string
	User  string // name, "" for who is not in the list
	Role  string
}
