package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
)

// Files beside the device's key. A factory reset leaves them: the sticker stays on
// the device too.
const (
	labelFile    = "label"       // what checks the code on the sticker, never the code
	failuresFile = "label-tries" // who has failed with it
)

// labelRoutes are pairing by the code on the sticker.
func labelRoutes() routes {
	return routes{
		{api.Operation{Method: "POST", Path: "/v1/pair/label", Summary: "Begin pairing by the code on the device's label.",
			Action: public, Request: api.CodeBegin{}, Answer: api.CodeChallenge{},
			Refuses: []api.Code{api.CodeClosed, api.CodeBusy}}, (*Daemon).labelBegin},
		{api.Operation{Method: "POST", Path: "/v1/pair/label/confirm", Summary: "Prove the code of the label, and be let in.",
			Action: public, Request: api.CodeConfirm{}, Answer: api.Paired{},
			Refuses: []api.Code{api.CodeClosed, api.CodeBusy, api.CodeNameTaken, api.CodeUnavailable}}, (*Daemon).labelConfirm},
	}
}

func (d *Daemon) labelPath() string { return filepath.Join(d.config().Device.Identity, labelFile) }

// readLabel returns what the device keeps of its label; zero where there is none.
func (d *Daemon) readLabel() pairing.LabelRecord {
	data, err := durable.ReadPrivate(d.labelPath(), 2*pairing.LabelRecordBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return pairing.LabelRecord{}
	}
	var record pairing.LabelRecord
	if err == nil {
		record, err = pairing.ParseLabelRecord(data)
	}
	if err != nil {
		d.log.Error("nobody can pair by label", "file", d.labelPath(), "error", err)
	}
	return record
}

// localLabel makes a label and tells its code, this once. One that is printed
// already is replaced only when that is asked for: its sticker is worth nothing then.
func (d *Daemon) localLabel(w http.ResponseWriter, r *http.Request) error {
	var order control.LabelOrder
	if err := api.DecodeRequest(w, r, &order); err != nil {
		return err
	}
	describe(r, "label")
	d.labelling.Lock()
	defer d.labelling.Unlock()
	if d.window.HasLabel() && !order.Replace {
		return api.Problemf(api.CodeConflict, "this device has a label already, and its code cannot be told again: --replace makes another, and the printed one is nothing from then on")
	}
	code := pairing.NewLabel()
	link, err := pairing.Link{Kind: pairing.LinkLabel, Device: d.key.ID(), Label: code}.Text()
	if err != nil {
		return err
	}
	record := code.Record(d.key.Fingerprint())
	if err := durable.WriteFile(d.labelPath(), record.Bytes(), 0o600); err != nil {
		return fmt.Errorf("label: %w", err)
	}
	d.window.SetLabel(record)
	d.log.Info("a label was made", "by", localUser(r), "replaces", order.Replace)
	api.WriteJSON(w, control.Label{ID: d.key.ID(), Code: code.Grouped(), Link: link})
	return nil
}

// labelWarning is for the status of a device that shall pair by label and has none.
func (d *Daemon) labelWarning() []string {
	if !d.pairsBy(pairing.ModeLabel) || d.window.HasLabel() {
		return nil
	}
	return []string{"pairing by label is configured, and there is no label: make one with `keyholed label`"}
}

// failures keep who has failed with the label, one source a line: prefix, times.
type failures string

// maxFailuresBytes is what all the sources there can be take.
const maxFailuresBytes = pairing.MaxDelaySources * 64

// Load is part of pairing.Failures.
func (f failures) Load() ([]pairing.Failure, error) {
	data, err := durable.ReadPrivate(string(f), maxFailuresBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseFailures(data)
}

// noSource stands for the zero prefix.
const noSource = "-"

func parseFailures(data []byte) (list []pairing.Failure, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		source, times, _ := strings.Cut(lines.Text(), " ")
		var p netip.Prefix
		if source != noSource {
			if p, err = netip.ParsePrefix(source); err != nil {
				return nil, err
			}
		}
		n, err := strconv.Atoi(times)
		if err != nil || n < 1 || len(list) >= pairing.MaxDelaySources {
			return nil, fmt.Errorf("line %d: not a source and how often it failed", len(list)+1)
		}
		list = append(list, pairing.Failure{Source: p, Times: n})
	}
	return list, lines.Err()
}

// Store is part of pairing.Failures.
func (f failures) Store(list []pairing.Failure) error {
	var b bytes.Buffer
	for _, one := range list {
		source := noSource
		if one.Source.IsValid() {
			source = one.Source.String()
		}
		fmt.Fprintln(&b, source, one.Times)
	}
	return durable.WriteFile(string(f), b.Bytes(), 0o600)
}
