package basestation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/keyholed/keyhole/protocol/attach"
)

// The peers file remembers where devices were, so that a node that was killed can
// tell them that it is back, instead of waiting for their next keep-alive. It is a hint:
// what is lost of it (a power cut, a full queue) costs such a wait. Each slot of the
// attach node has one place in it:
//
//	0  8  index, 0: nobody
//	8  16 IP address, IPv4 in its IPv6 form
//	24 2  port
//	26 2  zero
//	28 4  CRC-32 of all before it
const (
	peersFile  = "peers"
	oldPeers   = "peers.old" // of the run before, until its devices were told
	peerRecord = 32
	// maxPeerChanges waits for the disk; what comes when it is full is lost.
	maxPeerChanges = 1 << 14
	// maxOldPeers bounds what runs that are killed one after the other leave: what two
	// million devices take.
	maxOldPeers = 64 << 20
)

// A knownPeer is a device of an earlier run.
type knownPeer struct {
	index uint64
	at    netip.AddrPort
}

// A peerFile is written by a goroutine of its own.
type peerFile struct {
	dir     string
	file    *os.File
	log     *slog.Logger
	changes chan peerChange
	done    chan struct{}
	once    sync.Once
	lost    atomic.Uint64
}

type peerChange struct {
	slot uint32
	knownPeer
}

// openPeerFile puts the file of the run before aside, joined with one that was not
// worked off, and begins a new one.
func openPeerFile(dir string, log *slog.Logger) (*peerFile, error) {
	p := &peerFile{dir: dir, log: log, changes: make(chan peerChange, maxPeerChanges), done: make(chan struct{})}
	if err := p.keepOld(); err != nil {
		return nil, err
	}
	var err error
	if p.file, err = os.OpenFile(p.path(peersFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, fmt.Errorf("peers file: %w", err)
	}
	go p.run()
	return p, nil
}

func (p *peerFile) path(name string) string { return filepath.Join(p.dir, name) }

// keepOld appends the file of the run before to the one of the runs before that, if
// a node is killed again before it has told everybody.
func (p *peerFile) keepOld() error {
	last, err := os.Open(p.path(peersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("peers file: %w", err)
	}
	defer func() { _ = last.Close() }() // only read
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if info, err := os.Stat(p.path(oldPeers)); err == nil && info.Size() > maxOldPeers {
		flags |= os.O_TRUNC
	}
	old, err := os.OpenFile(p.path(oldPeers), flags, 0o600)
	if err != nil {
		return fmt.Errorf("peers file: %w", err)
	}
	_, err = io.Copy(old, last)
	if err = errors.Join(err, old.Close()); err != nil {
		return fmt.Errorf("peers file: %w", err)
	}
	return nil
}

// seen notes where a device is; index 0: it left. It never waits.
func (p *peerFile) seen(slot uint32, index uint64, at netip.AddrPort) {
	if attach.IsStream(at) {
		index = 0 // it learns of a restart when its connection breaks
	}
	select {
	case p.changes <- peerChange{slot, knownPeer{index, at}}:
	default:
		p.lost.Add(1)
	}
}

func (p *peerFile) run() {
	defer close(p.done)
	failed := false
	for c := range p.changes {
		b := encodePeer(c.knownPeer)
		if _, err := p.file.WriteAt(b[:], int64(c.slot)*peerRecord); err != nil && !failed {
			failed = true
			p.log.Warn("the peers file was not written: devices will learn of a restart later", "err", err)
		}
	}
}

// close writes what waits. Nothing may be seen after it.
func (p *peerFile) close() {
	p.once.Do(func() {
		close(p.changes)
		<-p.done
		_ = p.file.Close() // a hint, and not synced
	})
}

func encodePeer(k knownPeer) (b [peerRecord]byte) {
	if k.index == 0 {
		return b
	}
	ip := k.at.Addr().As16()
	binary.BigEndian.PutUint64(b[:], k.index)
	copy(b[8:], ip[:])
	binary.BigEndian.PutUint16(b[24:], k.at.Port())
	binary.BigEndian.PutUint32(b[28:], crc32.ChecksumIEEE(b[:28]))
	return b
}

// parsePeer reads a record; false for an empty or a damaged one.
func parsePeer(b []byte) (k knownPeer, ok bool) {
	if len(b) != peerRecord || binary.BigEndian.Uint32(b[28:]) != crc32.ChecksumIEEE(b[:28]) {
		return k, false
	}
	k.index = binary.BigEndian.Uint64(b)
	k.at = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), binary.BigEndian.Uint16(b[24:]))
	return k, k.index != 0 && k.at.Port() != 0 && !attach.IsStream(k.at)
}

// readOld returns the devices of earlier runs.
func (p *peerFile) readOld() ([]knownPeer, error) {
	data, err := os.ReadFile(p.path(oldPeers))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []knownPeer
	for ; len(data) >= peerRecord; data = data[peerRecord:] {
		if k, ok := parsePeer(data[:peerRecord]); ok {
			all = append(all, k)
		}
	}
	return all, nil
}

// removeOld forgets the devices of earlier runs, when all were told.
func (p *peerFile) removeOld() {
	if err := os.Remove(p.path(oldPeers)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("the old peers file was not removed", "err", err)
	}
}
