package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/keyholed/keyhole/basestation"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
)

// key prints the first root key, or all of them. It works while the basestation
// runs, and before its first start.
func key(c *call) error {
	all := c.flags.Bool("all", false, "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	ring, err := basestation.OpenKeyring(cfg.Basestation.Data)
	if err != nil {
		return explain(err, cfg)
	}
	keys := ring.Keys()
	if !*all {
		keys = keys[:1]
	}
	_, err = fmt.Fprintln(c.stdout, strings.Join(keys, "\n"))
	return err
}

func secret(c *call) error {
	if err := c.parse(2, 2); err != nil {
		return err
	}
	if c.args[0] != "derive" {
		return usagef("secret does not understand %q", c.args[0])
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	serial := c.args[1]
	if err := checkSerial(serial); err != nil {
		return err
	}
	master, err := readMaster(cfg.Enrol.Master)
	if errors.Is(err, fs.ErrNotExist) {
		// A new one would derive secrets that no device has.
		return api.Problemf(api.CodeNotFound, "there is no master secret at %s: name the data directory of the basestation with --data, or make one with `keyhole-basestation batch`", cfg.Enrol.Master)
	}
	if err != nil {
		return explain(err, cfg)
	}
	derived := attach.DeriveSecret(master, serial)
	_, err = fmt.Fprintln(c.stdout, hex.EncodeToString(derived[:]))
	return err
}

// maxSerialBytes is what an attach message carries.
const maxSerialBytes = 64

func checkSerial(serial string) error {
	if serial == "" || len(serial) > maxSerialBytes {
		return usagef("%q is no serial number: want 1 to %d bytes", serial, maxSerialBytes)
	}
	if looksLikeID.MatchString(serial) {
		return usagef("%q is no serial number, and not the id of a device either, though it looks like one", serial)
	}
	return nil
}

// looksLikeID finds ids that were copied with a letter too many, too few or too
// large: as a serial number such a one would be taken in silence.
var looksLikeID = regexp.MustCompile(`^[A-Za-z2-7]{24,28}$`)

const maxMasterFile = 256

// loadMaster reads the master secret, and makes it where there is none.
func loadMaster(path string) (master attach.Secret, made bool, err error) {
	if master, err = readMaster(path); !errors.Is(err, fs.ErrNotExist) {
		return master, false, err
	}
	_, _ = rand.Read(master[:]) // never fails
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return master, false, err
	}
	return master, true, durable.WriteFile(path, []byte(hex.EncodeToString(master[:])+"\n"), 0o600)
}

// readMaster reads the master secret, 64 hexadecimal digits in a file for its owner
// alone.
func readMaster(path string) (master attach.Secret, err error) {
	data, err := durable.ReadPrivate(path, maxMasterFile)
	if err != nil {
		return master, err
	}
	return parseMaster(path, string(data))
}

func parseMaster(path, text string) (master attach.Secret, err error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != len(master) {
		return master, fmt.Errorf("%s: want 64 hexadecimal digits", path)
	}
	copy(master[:], b)
	return master, nil
}
