package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/internal/settings"
)

const (
	// maxAddresses is as many as clients are told.
	maxAddresses = 8
	// maxKeys is the key in use and the one that follows or precedes it.
	maxKeys      = 2
	rootKeyBytes = 32 // of an Ed25519 public key
	maxSerial    = 64
)

// hostName is a DNS name, or what a hosts file may have.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?$`)

// basestation looks at form alone: no name is resolved and nobody is asked.
func (v *validator) basestation() {
	b := v.Basestation
	if len(b.Addresses) == 0 && len(b.Keys) == 0 && b.Serial == "" && b.SecretFile == "" {
		return
	}
	switch n := len(b.Addresses); {
	case n == 0:
		v.fail("has no value", `write address = "base.example.net:7443", or leave the section empty: then the device serves its own network only`, "basestation", "address")
	case n > maxAddresses:
		v.fail(fmt.Sprintf("%d addresses: at most %d are allowed", n, maxAddresses), "", "basestation", "address")
	}
	for i, address := range b.Addresses {
		if text := checkBasestation(address); text != "" {
			v.fail(text, "", "basestation", "address", strconv.Itoa(i))
		} else if slices.Contains(b.Addresses[:i], address) {
			v.fail(settings.Quote(address)+" is listed twice", "", "basestation", "address", strconv.Itoa(i))
		}
	}
	switch n := len(b.Keys); {
	case n == 0:
		v.fail("has no value", `write key = "…" with what "keyhole-basestation key" prints`, "basestation", "key")
	case n > maxKeys:
		v.fail(fmt.Sprintf("%d keys: at most %d are allowed", n, maxKeys), "", "basestation", "key")
	}
	for i, key := range b.Keys {
		if text := checkRootKey(key); text != "" {
			v.fail(text, "", "basestation", "key", strconv.Itoa(i))
		} else if slices.Contains(b.Keys[:i], key) {
			v.fail(settings.Quote(key)+" is listed twice", "", "basestation", "key", strconv.Itoa(i))
		}
	}
	v.factory()
}

func (v *validator) factory() {
	b := v.Basestation
	if len(b.Serial) > maxSerial || strings.ContainsFunc(b.Serial, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		v.fail(fmt.Sprintf("%s is no serial number: want up to %d printable ASCII characters without spaces", settings.Quote(b.Serial), maxSerial), "", "basestation", "serial")
	}
	switch {
	case b.Serial != "" && b.SecretFile == "":
		v.fail("has no value, and basestation.serial is nothing without its secret", "", "basestation", "secret_file")
	case b.Serial == "" && b.SecretFile != "":
		v.fail("has no value, and basestation.secret_file is nothing without its serial number", "", "basestation", "serial")
	}
	if b.SecretFile != "" {
		if text := checkFile(b.SecretFile); text != "" {
			v.fail(text, "", "basestation", "secret_file")
		}
	}
}

func checkBasestation(address string) string {
	const want = `want "base.example.net:7443", "192.0.2.7:7443" or "[2001:db8::7]:7443"`
	host, port, err := net.SplitHostPort(address)
	if err != nil || len(address) > maxAddressBytes {
		return settings.Quote(address) + " is no address of a basestation: " + want
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Sprintf("port %s of %s: want a number from 1 to 65535", settings.Quote(port), settings.Quote(address))
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() || ip.IsMulticast() {
			return settings.Quote(address) + " is no address that can be reached: " + want
		}
		return ""
	}
	if !hostName.MatchString(host) {
		return fmt.Sprintf("host %s of %s: %s", settings.Quote(host), settings.Quote(address), want)
	}
	return ""
}

// checkRootKey knows the text form only; what the key is, is for the daemon.
func checkRootKey(key string) string {
	data, err := base64.RawURLEncoding.Strict().DecodeString(key)
	if err != nil || len(data) != rootKeyBytes || strings.ContainsAny(key, "\r\n") {
		return settings.Quote(key) + ` is no key of a basestation: want the 43 characters that "keyhole-basestation key" prints`
	}
	return ""
}
