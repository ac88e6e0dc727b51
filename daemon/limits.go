package daemon

import (
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
)

// When somebody may do something, as peers say it and as the access list has it.

func apiLimits(l acl.Limits) api.Limits {
	out := api.Limits{}
	if !l.Until.IsZero() {
		until := l.Until.UTC()
		out.Until = &until
	}
	for _, w := range l.Hours {
		h := api.Hours{From: int(w.From), To: int(w.To)}
		for _, day := range w.Days {
			h.Days = append(h.Days, int(day))
		}
		out.Hours = append(out.Hours, h)
	}
	return out
}

func aclLimits(l api.Limits) (acl.Limits, error) {
	out := acl.Limits{}
	if l.Until != nil {
		if out.Until = l.Until.UTC(); out.Until.IsZero() { // which would be no end at all
			return acl.Limits{}, api.Problemf(api.CodeMalformed, "the field \"until\" has passed already")
		}
	}
	for _, h := range l.Hours {
		w, err := aclWindow(h)
		if err != nil {
			return acl.Limits{}, err
		}
		out.Hours = append(out.Hours, w)
	}
	return out, nil
}

func aclWindow(h api.Hours) (acl.Window, error) {
	const most = 24 * 60
	if h.From < 0 || h.From > most || h.To < 0 || h.To > most {
		return acl.Window{}, api.Problemf(api.CodeMalformed, "the field \"hours\": minutes are 0 to %d", most)
	}
	w := acl.Window{From: acl.Minute(h.From), To: acl.Minute(h.To)}
	for _, day := range h.Days {
		if day < 0 || day > 6 {
			return acl.Window{}, api.Problemf(api.CodeMalformed, "the field \"hours\": days are 0, Sunday, to 6")
		}
		w.Days = append(w.Days, time.Weekday(day))
	}
	return w, nil
}
