// Package remote lets the three programs meet in one process, over loopback: a
// real basestation with its records in memory, the real daemon, and the client
// library. It has tests only.
//
// It is here and not with the daemon's tests because neither daemon nor client
// may know the basestation: what each does with one that lies is tried there
// against a small hub, and what they do together here. The same three as programs,
// behind routers, are in testbed/e2e.
package remote
