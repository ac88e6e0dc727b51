// Package testface reads for tests what the page of a simulated board shows, as a person
// in front of it would. It is for tests of whole programs only.
package testface

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// readTime bounds one look.
const readTime = 10 * time.Second

// Words returns what stands on the display, line by line. url is that of the page, with
// its token, as `keyholed status` prints it.
func Words(ctx context.Context, url string) ([]string, error) {
	page, token, ok := strings.Cut(url, "/#token=")
	if !ok {
		return nil, fmt.Errorf("%q is no address of a front panel", url)
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"/events", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Keyhole-Token", token)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("front panel: %s", answer.Status)
	}
	return Look(answer.Body)
}

// Look reads the first look of the page's event stream.
func Look(stream io.Reader) ([]string, error) {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 1<<20)
	look := false
	for lines.Scan() {
		if lines.Text() == "event: look" {
			look = true
		}
		data, is := strings.CutPrefix(lines.Text(), "data: ")
		if !is || !look {
			continue
		}
		var shown struct{ Words []string }
		return shown.Words, json.Unmarshal([]byte(data), &shown)
	}
	return nil, fmt.Errorf("front panel: it shows nothing: %w", lines.Err())
}

// Digits returns the digits behind some words on the display: "204862" of "Call no. 204 862"
// for "Call no.". With a line of its own below the words, that line's.
func Digits(words []string, behind string) string {
	for i, line := range words {
		rest, found := strings.CutPrefix(line, behind)
		if !found {
			continue
		}
		digits := onlyDigits(rest)
		if strings.Contains(rest, ":") && i+1 < len(words) { // a clock: the digits are below it
			digits = onlyDigits(words[i+1])
		}
		return digits
	}
	return ""
}

func onlyDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}
