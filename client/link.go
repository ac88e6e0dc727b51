package client

import (
	"context"
	"errors"
	"net"
	"reflect"
	"slices"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/reach"
)

// maxResolved bounds what the names of a basestation can cost.
const maxResolved = 16

// newLink makes the link over which the question goes.
func (h *Home) newLink(m *meeting, d Device, bases []string, i *attach.Introduce) (*reach.Link, error) {
	r := m.recalled
	if at := slices.Index(bases, r.Address); at > 0 {
		bases[0], bases[at] = bases[at], bases[0]
	}
	return reach.NewLink(reach.LinkConfig{
		Key: h.key, Roots: m.roots, Addresses: bases, Introduce: i, Packets: m.socket, Message: m.message, Log: m.log,
		Known: r.known(), Network: network, Blocked: r.Blocked,
	})
}

// remember keeps what the next introduction can use.
func (h *Home) remember(m *meeting) {
	s := m.link.Status()
	if s.State != attach.StateAttached || m.recalled.Device.IsZero() {
		return
	}
	if err := h.raise(m.device, m.link.Roots()); err != nil {
		m.log.Warn("floor of the basestation's key not remembered", "error", err)
	}
	next, known := m.recalled, m.link.Known()
	next.Address, next.Certificate, next.Cookie = s.Address, known.Certificate, known.Cookie
	next.Blocked = s.Over == "tcp"
	if m.outcome != outcomeUnknown {
		next.Relayed = m.outcome == outcomeRelayed
	}
	if next.Device.IsZero() || reflect.DeepEqual(next, m.recalled) { // a stranger is nothing to remember
		return
	}
	if err := h.keep(next); err != nil {
		m.log.Warn("introduction not remembered", "error", err)
	}
}

// An outcome is what a meeting says of the network.
type outcome int

const (
	outcomeUnknown outcome = iota
	outcomePunched
	outcomeRelayed // and only that
)

// resolve turns the basestation's names into addresses that may be asked.
func (b Basestation) resolve(ctx context.Context) ([]string, error) {
	var list []string
	var errs []error
	for _, address := range b.Addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			continue // the book was checked
		}
		if _, ok := parseIP(host); ok {
			list = append(list, address)
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, ip := range ips {
			// A name may be made to lead to this machine by whoever answers for it.
			if text := net.JoinHostPort(ip.Unmap().String(), port); usableAddr(ip, false) && !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	if len(list) == 0 {
		return nil, errors.Join(append(errs, errors.New("no address to ask"))...)
	}
	return list[:min(len(list), maxResolved)], nil
}
