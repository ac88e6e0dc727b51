package basestation

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// The key files of a data directory, mode 0600. The first two are the same on
// every node of a fleet: copy them before the first start of a further node.
const (
	// rootFile holds two Ed25519 keys in PEM: the first certifies nodes, the second
	// waits. Devices pin both, so that the first can be retired one day.
	rootFile = "root.pem"
	// fleetFile holds the key that seals what is secret in the store.
	fleetFile = "fleet.key"
	// nodeFile holds what this node alone has: its key, and the key of its reset
	// tokens, by which devices learn of a restart.
	nodeFile = "node.key"

	maxKeyFile = 4 << 10
	rootKeys   = 2
)

// A Keyring is who a basestation is, as kept in its data directory. It does not
// print.
type Keyring struct {
	roots [rootKeys]*identity.Key
	fleet registry.SealKey
	node  nodeKeys
}

// nodeKeys is the content of nodeFile.
type nodeKeys struct {
	Private    attach.Secret
	Reset      attach.Secret
	Generation uint64 // of certificates; raise it, and Floor, to retire a lost node key
	Floor      uint64
}

type nodeText struct {
	Private    string `json:"private"`
	Reset      string `json:"reset"`
	Generation uint64 `json:"generation"`
	Floor      uint64 `json:"floor"`
}

// OpenKeyring reads the keys in a data directory, and makes the directory and
// what is missing in it. A file that is damaged, or that others may read, is an
// error and stays as it is: devices trust these keys alone. So are root keys that
// are missing where a node has been: new ones would be those of another basestation.
func OpenKeyring(dir string) (*Keyring, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	defer unlock()
	if missing(dir, rootFile) && !missing(dir, nodeFile) {
		return nil, fmt.Errorf("%s is missing and devices trust its keys alone: put the copy of it back, or remove %s as well to begin anew",
			filepath.Join(dir, rootFile), nodeFile)
	}
	k := new(Keyring)
	for _, f := range []struct {
		name string
		make func() ([]byte, error)
		read func([]byte) error
	}{
		{rootFile, makeRoots, k.readRoots},
		{fleetFile, makeFleetKey, k.readFleetKey},
		{nodeFile, makeNodeKeys, k.readNodeKeys},
	} {
		if err := readOrMake(filepath.Join(dir, f.name), f.make, f.read); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func missing(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return errors.Is(err, fs.ErrNotExist)
}

func readOrMake(path string, create func() ([]byte, error), read func([]byte) error) error {
	data, err := durable.ReadPrivate(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = create(); err == nil {
			err = durable.WriteFile(path, data, 0o600)
		}
	}
	if err == nil {
		err = read(data)
	}
	if err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	return nil
}

// Keys returns the root keys as they go into a device's configuration.
func (k *Keyring) Keys() []string {
	var all []string
	for _, r := range k.roots {
		all = append(all, attach.FormatRootKey(r.Public().(ed25519.PublicKey)))
	}
	return all
}

// Roots returns the root keys as a device pins them.
func (k *Keyring) Roots() []attach.Root {
	var all []attach.Root
	for _, r := range k.roots {
		all = append(all, attach.Root{Key: r.Public().(ed25519.PublicKey)})
	}
	return all
}

func (*Keyring) String() string   { return "(keys of a basestation)" }
func (*Keyring) GoString() string { return "(keys of a basestation)" }

// Seal returns the key that seals secrets in the store.
func (k *Keyring) Seal() registry.SealKey { return k.fleet }

// NodeID names this node in its fleet: 16 hexadecimal digits that follow from
// its key.
func (k *Keyring) NodeID() string {
	public, err := attach.PublicKey(k.node.Private)
	if err != nil {
		panic("basestation: X25519 of a random key: " + err.Error()) // cannot be
	}
	sum := sha256.Sum256(append([]byte("keyhole/1 node id\x00"), public[:]...))
	return hex.EncodeToString(sum[:8])
}

// Certificate says which addresses this node has, signed by the first root.
func (k *Keyring) Certificate(addresses []netip.AddrPort) ([]byte, error) {
	public, err := attach.PublicKey(k.node.Private)
	if err != nil {
		return nil, err
	}
	return attach.SignCertificate(k.roots[0], attach.Certificate{
		Generation: k.node.Generation, Floor: k.node.Floor, Key: public, Addresses: addresses,
	})
}

const pemKind = "PRIVATE KEY"

func makeRoots() ([]byte, error) {
	var out []byte
	for range rootKeys {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return nil, err
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemKind, Bytes: der})...)
	}
	return out, nil
}

func (k *Keyring) readRoots(data []byte) error {
	for i := range k.roots {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil || block.Type != pemKind {
			return fmt.Errorf("want %d Ed25519 keys in PEM, found %d", rootKeys, i)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return err
		}
		private, ok := key.(ed25519.PrivateKey)
		if !ok {
			return fmt.Errorf("root key %d is not Ed25519", i+1)
		}
		if k.roots[i], err = identity.New(private); err != nil {
			return err
		}
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return fmt.Errorf("more than %d keys", rootKeys)
	}
	return nil
}

var keyText = base64.RawURLEncoding.Strict()

func newSecret() (s attach.Secret) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}

func parseSecret(text string) (s attach.Secret, err error) {
	b, err := keyText.DecodeString(text)
	if err != nil || len(b) != len(s) {
		return s, errors.New("want a key of 43 characters")
	}
	return attach.Secret(b), nil
}

func makeFleetKey() ([]byte, error) {
	s := newSecret()
	return []byte(keyText.EncodeToString(s[:]) + "\n"), nil
}

func (k *Keyring) readFleetKey(data []byte) error {
	s, err := parseSecret(string(bytes.TrimSpace(data)))
	if err != nil {
		return err
	}
	derived, err := hkdf.Key(sha256.New, s[:], nil, "keyhole/1 basestation store", len(k.fleet))
	k.fleet = registry.SealKey(derived)
	return err
}

func makeNodeKeys() ([]byte, error) {
	private, reset := newSecret(), newSecret()
	data, err := json.MarshalIndent(nodeText{
		Private: keyText.EncodeToString(private[:]), Reset: keyText.EncodeToString(reset[:]), Generation: 1,
	}, "", "  ")
	return append(data, '\n'), err
}

func (k *Keyring) readNodeKeys(data []byte) error {
	var t nodeText
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&t)
	if err == nil {
		k.node.Private, err = parseSecret(t.Private)
	}
	if err == nil {
		k.node.Reset, err = parseSecret(t.Reset)
	}
	if err == nil && t.Floor > t.Generation {
		err = errors.New("the floor is above the generation")
	}
	k.node.Generation, k.node.Floor = t.Generation, t.Floor
	return err
}
