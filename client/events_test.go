package client

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestEventParser(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		err  error
	}{
		{"", nil, io.EOF},
		{"data: one\n\ndata:two\r\n\r\ndata: three\r\rdata: cut", []string{"one", "two", "three"}, io.EOF},
		{"\xEF\xBB\xBFdata: a\ndata: b\n\n", []string{"a\nb"}, io.EOF},
		{": comment\n\nevent: x\nid: 7\nretry: 1\ndata\ndatax: no\ndata:  two spaces\n\n", []string{"\n two spaces"}, io.EOF},
		{"data: " + strings.Repeat("x", maxEventLine) + "\n\n", nil, ErrEventTooLong},
		{strings.Repeat("data: "+strings.Repeat("x", 60<<10)+"\n", 5), nil, ErrEventTooLong},
	} {
		p := newEventParser(strings.NewReader(c.in))
		var got []string
		var err error
		for {
			var data []byte
			if data, err = p.next(); err != nil {
				break
			}
			got = append(got, string(data))
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") || !errors.Is(err, c.err) {
			t.Errorf("%.40q: %q, %v; want %q, %v", c.in, got, err, c.want, c.err)
		}
	}
}

func TestEventsFromADevice(t *testing.T) {
	d := newTestDevice(t)
	conn := d.dial(d.paired())
	events, err := conn.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	d.events <- ": hello\n\ndata: {\"kind\":\"tunnel\",\"what\":\"opened\",\"new\":1}\n\n"
	if ev, err := events.Next(); err != nil || ev.Kind != "tunnel" || ev.What != "opened" {
		t.Errorf("%+v, %v", ev, err)
	}
	d.events <- "data: {\n\n"
	if _, err := events.Next(); err == nil {
		t.Error("half a document is an event")
	}
	close(d.events)
	if _, err := events.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("data: {\"kind\":\"x\"}\n\n: c\r\rdata:2\r\n\r\n"))
	f.Add([]byte("data\n\n\xEF\xBB\xBF"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p := newEventParser(strings.NewReader(string(in)))
		for total := 0; ; {
			data, err := p.next()
			if err != nil {
				return
			}
			if total += len(data); total > len(in) {
				t.Fatal("more came out than went in")
			}
		}
	})
}
