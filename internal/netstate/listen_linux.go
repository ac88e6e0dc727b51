package netstate

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// groups are the notifications that matter.
var groups = []uint{
	unix.RTNLGRP_LINK,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// listen calls ready when it hears, then event whenever something may have
// changed, until ctx ends or the socket breaks. It reads the library's socket
// itself, because the library's subscriptions end, silently, when a burst
// overflows the socket ("no buffer space available"); here that is one more
// event, after which the Monitor lists everything anew.
func listen(ctx context.Context, ready func(), event func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return fmt.Errorf("subscribe to netlink: %w", err)
	}
	stop := context.AfterFunc(ctx, socket.Close)
	defer func() {
		if stop() {
			socket.Close()
		}
	}()
	ready()
	for {
		messages, from, err := socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
			event()
			continue
		case err != nil:
			return err
		case from.Pid != nl.PidKernel: // another process may send to us; it is no news
			continue
		}
		for _, message := range messages {
			if matters(message) {
				event()
				break
			}
		}
	}
}

// matters drops the routes that a busy router floods its listeners with: only
// default routes of the main table count.
func matters(m syscall.NetlinkMessage) bool {
	if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE {
		return true
	}
	if len(m.Data) < unix.SizeofRtMsg {
		return false
	}
	route := nl.DeserializeRtMsg(m.Data)
	return route.Dst_len == 0 && route.Table == unix.RT_TABLE_MAIN
}
