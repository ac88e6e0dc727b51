package control

import (
	"context"
	"os/user"
	"slices"
	"strconv"
)

// Group is the group whose members may command the daemon.
const Group = "keyhole"

// A Peer is the local process at the other end of a connection, as the kernel
// saw it when it connected.
type Peer struct {
	UID    uint32
	GID    uint32
	PID    int32
	Groups []uint32 // supplementary ones
}

// String is for logs: "alice" or "uid 1000" when the user has no name here.
func (p Peer) String() string {
	uid := strconv.FormatUint(uint64(p.UID), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}

type peerKey struct{}

// WithPeer returns a context that PeerFrom understands, for tests of handlers.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom returns who sent the request that ctx belongs to. ok is false when
// ctx is not that of a request of Server.
func PeerFrom(ctx context.Context) (p Peer, ok bool) {
	p, ok = ctx.Value(peerKey{}).(Peer)
	return p, ok
}

// may reports whether a peer commands a daemon that runs as uid own. group is
// the id of the group keyhole, if there is one. The mode of the socket says the
// same; this holds when somebody changed the mode, or when the group of the
// socket is a large one because there is no group keyhole.
func (p Peer) may(own uint32, group uint32, hasGroup bool) bool {
	if p.UID == 0 || p.UID == own {
		return true
	}
	return hasGroup && (p.GID == group || slices.Contains(p.Groups, group))
}

// groupID looks up the group keyhole.
func groupID() (id uint32, ok bool) {
	g, err := user.LookupGroup(Group)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err == nil
}
