package main

import (
	"bufio"
	"crypto/rand"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/protocol/attach"
)

const (
	maxBatch = 1_000_000
	// serialDigits is the least number of them, so that a batch sorts.
	serialDigits = 6
)

// made is what one device of a batch gets.
type made struct {
	Serial string `json:"serial"`
	Secret string `json:"secret"` // 64 hexadecimal digits, for the device alone
	Label  string `json:"label"`  // to print: the serial number with a check character
}

// batch makes serial numbers, secrets and labels, offline. Without --random the
// secrets follow from the master secret, and nothing need be brought to the
// basestation.
func batch(c *call) error {
	prefix := c.flags.String("prefix", "KH-", "")
	first := c.flags.Int("first", 1, "")
	random := c.flags.Bool("random", false, "")
	c.flags.BoolVar(&c.json, "json", false, "")
	if err := c.parse(1, 1); err != nil {
		return err
	}
	n, err := strconv.Atoi(c.args[0])
	if err != nil || n < 1 || n > maxBatch {
		return usagef("batch %s: want a number from 1 to %d", c.args[0], maxBatch)
	}
	if *first < 0 || *first > 1_000_000_000 {
		return usagef("--first %d: want 0 to 1000000000", *first)
	}
	if strings.Trim(*prefix, serialAlphabet+"-") != "" || len(*prefix) > 40 {
		return usagef("--prefix %q: want up to 40 of A-Z, 0-9 and -", *prefix)
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	secretOf := func(string) (s attach.Secret) {
		_, _ = rand.Read(s[:]) // never fails
		return s
	}
	if !*random {
		master, made, err := loadMaster(cfg.Enrol.Master)
		if err != nil {
			return explain(err, cfg)
		}
		if made {
			fmt.Fprintf(c.stderr, "a new master secret is in %s: keep a copy\n", cfg.Enrol.Master)
		}
		secretOf = func(serial string) attach.Secret { return attach.DeriveSecret(master, serial) }
	}
	out := bufio.NewWriter(c.stdout)
	write := writeCSV(out)
	if c.json {
		write = writeJSON(out)
	}
	for i := range n {
		serial := fmt.Sprintf("%s%0*d", *prefix, serialDigits, *first+i)
		s := secretOf(serial)
		if err := write(made{serial, hex.EncodeToString(s[:]), serial + "-" + checkCharacter(serial)}); err != nil {
			return err
		}
	}
	return out.Flush()
}

func writeCSV(w io.Writer) func(made) error {
	out := csv.NewWriter(w)
	headed := false
	return func(m made) error {
		if !headed {
			headed = true
			if err := out.Write([]string{"serial", "secret", "label"}); err != nil {
				return err
			}
		}
		if err := out.Write([]string{m.Serial, m.Secret, m.Label}); err != nil {
			return err
		}
		out.Flush()
		return out.Error()
	}
}

// writeJSON writes one document per line.
func writeJSON(w io.Writer) func(made) error {
	out := json.NewEncoder(w)
	return func(m made) error { return out.Encode(m) }
}

const serialAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// checkCharacter is ISO/IEC 7064 MOD 37,36 over the letters and digits of a
// serial number: it finds every single wrong character and nearly every swap, as
// they happen when a label is read aloud.
func checkCharacter(serial string) string {
	const m = len(serialAlphabet)
	p := m
	for _, r := range serial {
		v := strings.IndexRune(serialAlphabet, r)
		if v < 0 {
			continue // separators
		}
		s := (p + v) % m
		if s == 0 {
			s = m
		}
		p = s * 2 % (m + 1)
	}
	return string(serialAlphabet[(m+1-p)%m])
}
