package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/keyholed/keyhole/basestation/admin"
	"github.com/keyholed/keyhole/protocol/identity"
)

// running returns a client of the basestation that serves the data directory.
func (c *call) running() (*admin.Client, error) {
	cfg, err := c.load()
	if err != nil {
		return nil, err
	}
	return admin.NewClient(cfg.Basestation.Data), nil
}

func (c *call) print(v any) error {
	out := json.NewEncoder(c.stdout)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

func status(c *call) error {
	c.flags.BoolVar(&c.json, "json", false, "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	base, err := c.running()
	if err != nil {
		return err
	}
	var about admin.About
	if err := base.Do(context.Background(), http.MethodGet, "/v1/basestation", nil, &about); err != nil {
		return err
	}
	if c.json {
		return c.print(about)
	}
	var nodes admin.Nodes
	if err := base.Do(context.Background(), http.MethodGet, "/v1/nodes", nil, &nodes); err != nil {
		return err
	}
	out := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "node\t%s %s\n", about.Node, about.Name)
	fmt.Fprintf(out, "version\t%s\n", about.Version)
	fmt.Fprintf(out, "address\t%s\n", strings.Join(about.Addresses, ", "))
	fmt.Fprintf(out, "enrolment\t%s\n", about.Enrol)
	fmt.Fprintf(out, "devices\t%d attached here\n", about.Devices)
	fmt.Fprintf(out, "relayed\t%d tunnels\n", about.Tunnels)
	fmt.Fprintf(out, "up\t%v\n", time.Duration(about.Uptime)*time.Second)
	fmt.Fprintf(out, "nodes\t%d live\n", len(nodes.Nodes))
	for _, n := range nodes.Nodes {
		fmt.Fprintf(out, "\t%s  %s\n", n.ID, strings.Join(n.Addresses, ", "))
	}
	return out.Flush()
}

// pageSize of `devices` is large, since each page is a look at every record.
const pageSize = 50_000

func devices(c *call) error {
	c.flags.BoolVar(&c.json, "json", false, "")
	state := c.flags.String("state", "", "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	base, err := c.running()
	if err != nil {
		return err
	}
	var list lister = &tableList{out: tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)}
	if c.json {
		list = &jsonList{out: c.stdout}
	}
	for after := ""; ; {
		var page admin.Devices
		query := url.Values{"limit": {fmt.Sprint(pageSize)}, "after": {after}, "state": {*state}}
		if err := base.Do(context.Background(), http.MethodGet, "/v1/devices?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, d := range page.Devices {
			if err := list.add(d); err != nil {
				return err
			}
		}
		if after = page.Next; after == "" {
			return list.end()
		}
	}
}

// A lister writes devices as they come, however many there are.
type lister interface {
	add(admin.Device) error
	end() error
}

type tableList struct {
	out *tabwriter.Writer
	n   int
}

func (l *tableList) add(d admin.Device) error {
	if l.n == 0 {
		fmt.Fprintln(l.out, "ID\tSTATE\tSINCE\tADDRESS\tFIRMWARE\tSERIAL")
	}
	state, since := d.State, "-"
	if d.Blocked != nil {
		state += ", blocked"
	}
	if d.Since != nil {
		since = d.Since.Format(time.RFC3339)
	}
	if l.n++; l.n%1000 == 0 {
		_ = l.out.Flush() // the columns of the next thousand may differ
	}
	_, err := fmt.Fprintf(l.out, "%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, state, since, dash(d.Address), dash(printable(d.Firmware)), dash(printable(d.Serial)))
	return err
}

func (l *tableList) end() error { return l.out.Flush() }

// jsonList is one document, {"devices": [...]}.
type jsonList struct {
	out io.Writer
	n   int
}

func (l *jsonList) add(d admin.Device) error {
	before := ",\n"
	if l.n++; l.n == 1 {
		before = "{\"devices\": [\n"
	}
	data, err := json.Marshal(d)
	if err == nil {
		_, err = fmt.Fprintf(l.out, "%s%s", before, data)
	}
	return err
}

func (l *jsonList) end() error {
	if l.n == 0 {
		_, err := fmt.Fprintln(l.out, `{"devices": []}`)
		return err
	}
	_, err := fmt.Fprintln(l.out, "\n]}")
	return err
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// printable keeps what a device says of itself from commanding a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) { // commands, and marks of direction
			return '?'
		}
		return r
	}, text)
}

var verbs = []string{"show", "add", "block", "reopen", "remove"}

func device(c *call) error {
	c.flags.BoolVar(&c.json, "json", false, "")
	reason := c.flags.String("reason", "", "")
	var added admin.DeviceAdd
	c.flags.StringVar(&added.Note, "note", "", "")
	c.flags.StringVar(&added.Vendor, "vendor", "", "")
	if err := c.parse(2, 2); err != nil {
		return err
	}
	verb, name := c.args[0], c.args[1]
	if !slices.Contains(verbs, verb) {
		return usagef("device does not understand %q: want %s", verb, strings.Join(verbs, ", "))
	}
	base, err := c.running()
	if err != nil {
		return err
	}
	d := deviceCall{call: c, base: base, ctx: context.Background(), name: name}
	switch verb {
	case "add":
		return d.add(added)
	case "show":
		return d.show()
	case "block":
		return d.toDevice("blocked", http.MethodPut, "/block", admin.BlockAdd{Reason: *reason})
	case "reopen":
		return d.reopen()
	}
	return d.remove()
}

// deviceCall is one command about one device, named by its id or serial number.
type deviceCall struct {
	*call
	base *admin.Client
	ctx  context.Context
	name string
}

func (d *deviceCall) say(format string, args ...any) error {
	_, err := fmt.Fprintf(d.stdout, format+"\n", args...)
	return err
}

// id returns the device that is meant: the id itself, or what a serial number is
// bound to.
func (d *deviceCall) id() (identity.ID, error) {
	if id, err := identity.ParseID(d.name); err == nil {
		return id, nil
	}
	serial, err := d.serial()
	if err == nil && serial.Bound == "" {
		err = fmt.Errorf("no device has attached with the serial number %s yet", d.name)
	}
	return serial.Bound, err
}

func (d *deviceCall) serial() (s admin.Serial, err error) {
	if err := checkSerial(d.name); err != nil {
		return s, err
	}
	err = d.base.Do(d.ctx, http.MethodGet, "/v1/serials/"+url.PathEscape(d.name), nil, &s)
	return s, err
}

func (d *deviceCall) toDevice(done, method, path string, in any) error {
	id, err := d.id()
	if err != nil {
		return err
	}
	if err := d.base.Do(d.ctx, method, "/v1/devices/"+string(id)+path, in, nil); err != nil {
		return err
	}
	return d.say("%s %s", id, done)
}

func (d *deviceCall) add(in admin.DeviceAdd) error {
	if _, err := identity.ParseID(d.name); err == nil {
		in.ID = d.name
	} else if _, err := identity.ParseFingerprint(d.name); err == nil {
		in.Fingerprint = d.name
	} else if in != (admin.DeviceAdd{}) {
		return usagef("--note and --vendor are kept of a device, and %s is neither an id nor a fingerprint", d.name)
	} else {
		return d.addSerial()
	}
	var out admin.Device
	if err := d.base.Do(d.ctx, http.MethodPost, "/v1/devices", in, &out); err != nil {
		return err
	}
	return d.say("%s added", out.ID)
}

// addSerial makes a secret for a serial number; its bare value is on standard
// output, for a program of the factory.
func (d *deviceCall) addSerial() error {
	if err := checkSerial(d.name); err != nil {
		return err
	}
	var out admin.SerialSecret
	if err := d.base.Do(d.ctx, http.MethodPut, "/v1/serials/"+url.PathEscape(d.name), admin.SerialPut{}, &out); err != nil {
		return err
	}
	fmt.Fprintf(d.stderr, "the secret of %s, shown once:\n", d.name)
	return d.say("%s", out.Secret)
}

func (d *deviceCall) show() error {
	id, err := d.id()
	if err != nil {
		return err
	}
	var out admin.Device
	if err := d.base.Do(d.ctx, http.MethodGet, "/v1/devices/"+string(id), nil, &out); err != nil {
		return err
	}
	if d.json {
		return d.print(out)
	}
	w := tabwriter.NewWriter(d.stdout, 0, 0, 2, ' ', 0)
	for _, line := range describe(out) {
		if line[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", line[0], printable(line[1]))
		}
	}
	return w.Flush()
}

func describe(d admin.Device) [][2]string {
	when := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.Format(time.RFC3339)
	}
	lines := [][2]string{
		{"id", string(d.ID)}, {"fingerprint", d.Fingerprint}, {"state", d.State}, {"since", when(d.Since)}, {"reason", d.Reason},
		{"node", d.Node}, {"address", d.Address}, {"transport", d.Transport}, {"firmware", d.Firmware},
		{"serial", d.Serial}, {"vendor", d.Vendor}, {"note", d.Note}, {"added", when(d.Added)},
	}
	if d.Boots > 0 {
		lines = append(lines, [2]string{"boots", fmt.Sprint(d.Boots)})
	}
	if d.Blocked != nil {
		lines = append(lines, [2]string{"blocked", strings.TrimSpace("since " + d.Blocked.Since.Format(time.RFC3339) + " " + d.Blocked.Reason)})
	}
	return lines
}

// reopen lets a blocked device attach again and, of a serial number, lets another
// key be bound.
func (d *deviceCall) reopen() error {
	if _, err := identity.ParseID(d.name); err == nil {
		return d.toDevice("may attach again", http.MethodDelete, "/block", nil)
	}
	serial, err := d.serial()
	if err != nil {
		return err
	}
	if serial.Bound != "" {
		if err := d.base.Do(d.ctx, http.MethodDelete, "/v1/devices/"+string(serial.Bound)+"/block", nil, nil); err != nil {
			return err
		}
	}
	if err := d.base.Do(d.ctx, http.MethodDelete, "/v1/serials/"+url.PathEscape(d.name)+"/binding", nil, nil); err != nil {
		return err
	}
	return d.say("%s is open: the next device with its secret is bound to it", d.name)
}

// remove forgets a device or, where no device has it, a serial number with its
// secret.
func (d *deviceCall) remove() error {
	if _, err := identity.ParseID(d.name); err == nil {
		return d.toDevice("removed", http.MethodDelete, "", nil)
	}
	serial, err := d.serial()
	if err != nil {
		return err
	}
	if serial.Bound != "" {
		if err := d.base.Do(d.ctx, http.MethodDelete, "/v1/devices/"+string(serial.Bound), nil, nil); err != nil {
			return err
		}
	}
	if err := d.base.Do(d.ctx, http.MethodDelete, "/v1/serials/"+url.PathEscape(d.name), nil, nil); err != nil {
		return err
	}
	return d.say("%s removed, and its secret", d.name)
}
