package client

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// recallFile is a cache: whatever is wrong with it costs a round trip.
const recallFile = "introductions.json"

// Limits of the cache.
const (
	maxRecallBytes = 1 << 20
	maxRecalled    = 200
)

// A recalled introduction is what makes the next one with the same device shorter.
type recalled struct {
	Device  identity.Fingerprint `json:"device"`
	Address string               `json:"address"` // of the basestation: the last good one
	// Certificate and cookie of the node: with them the question needs a round trip less.
	Certificate []byte `json:"certificate,omitempty"`
	Cookie      []byte `json:"cookie,omitempty"`
	// Network is where that was, Blocked that UDP did not get through there, and
	// Relayed that nothing else did.
	Network string `json:"network"`
	Blocked bool   `json:"blocked,omitempty"`
	Relayed bool   `json:"relayed,omitempty"`
}

func (r recalled) known() attach.Known {
	return attach.Known{Certificate: r.Certificate, Cookie: r.Cookie}
}

// here returns r without what was true of another network.
func (r recalled) here(network string) recalled {
	if r.Network != network {
		r.Network, r.Blocked, r.Relayed, r.Cookie = network, false, false, nil
	}
	return r
}

// network names the network that this machine is in, well enough to tell home from
// work.
func network() string {
	var names []string
	for _, p := range prefixes() {
		if a := p.Addr(); !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			names = append(names, p.String())
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (h *Home) recallPath() string { return filepath.Join(h.dir, recallFile) }

// recollect reads the cache, or what there is of it.
func (h *Home) recollect() (list []recalled) {
	data, err := durable.ReadPrivate(h.recallPath(), maxRecallBytes)
	if err != nil || json.Unmarshal(data, &list) != nil {
		return nil
	}
	return list[:min(len(list), maxRecalled)]
}

// recall returns what is known of the last introduction with a device.
func (h *Home) recall(f identity.Fingerprint) recalled {
	list := h.recollect()
	now := network()
	if i := slices.IndexFunc(list, func(r recalled) bool { return r.Device == f }); i >= 0 {
		return list[i].here(now)
	}
	return recalled{Device: f, Network: now}
}

// keep remembers an introduction for the next one, the latest first.
func (h *Home) keep(r recalled) error {
	return h.locked(func() error {
		list := slices.DeleteFunc(h.recollect(), func(o recalled) bool { return o.Device == r.Device })
		list = append([]recalled{r}, list...)
		data, err := json.Marshal(list[:min(len(list), maxRecalled)])
		if err != nil {
			return err
		}
		return durable.WriteFile(h.recallPath(), data, 0o600)
	})
}
