package acl

import "errors"

// Errors of opening. Each comes wrapped with what to do.
var (
	ErrInUse = errors.New("the access list is in use by another process")
	ErrLost  = errors.New("the access list is lost") // neither copies nor log can say who may enter
)

// Errors of a change. The list is as it was.
var (
	ErrReadOnly  = errors.New("the access list is read-only")
	ErrClosed    = errors.New("the access list is closed")
	ErrNoUser    = errors.New("no such user")
	ErrAmbiguous = errors.New("several keys begin like that")
	ErrLastOwner = errors.New("the last owner can neither be removed nor be given another role: make somebody else owner first, or erase everything with a factory reset")
	ErrLastKey   = errors.New("it is the user's only key: revoke the user instead")
	ErrKeyTaken  = errors.New("the key is another user's")
	ErrOwner     = errors.New("only the first to pair becomes owner; an owner can make others owner later")
	ErrNoGrant   = errors.New("no such grant")
	ErrBroken    = errors.New("the audit log could not be written and is not written again before a restart")
)
