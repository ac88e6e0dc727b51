package attach

import (
	"encoding/binary"
	"io"

	"github.com/flynn/noise"
)

// The handshake is Noise_NK_25519_AESGCM_SHA256: the node is known beforehand (by
// its certificate), the other side proves itself afterwards by a signature over the
// handshake hash. Forward secret from the second message on.

// prologueLabel comes before the clear part of HELLO in the prologue, so that
// version, index and cookie cannot be changed on the way unnoticed.
const prologueLabel = "keyhole/1 attach\x00"

// keys are what a handshake leaves: one key for each direction, and the hash
// that names this handshake and no other.
type keys struct {
	toNode, fromNode [32]byte
	hash             [32]byte
}

// greet makes a HELLO and the state that its WELCOME completes.
func greet(random io.Reader, node [32]byte, h hello) ([]byte, *noise.HandshakeState, error) {
	packet := h.appendHead(make([]byte, 0, helloSize))
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: new(agreement).suite(), Random: random, Pattern: noise.HandshakeNK, Initiator: true,
		Prologue: append([]byte(prologueLabel), packet...), PeerStatic: node[:],
	})
	if err != nil {
		return nil, nil, err
	}
	packet, _, _, err = state.WriteMessage(packet, nil)
	return packet, state, err
}

// welcomed reads the Noise message of a WELCOME and returns the keys and the
// index of the node. After an error the state can still read another.
func welcomed(state *noise.HandshakeState, message []byte) (k keys, index uint64, err error) {
	payload, to, from, err := state.ReadMessage(nil, message)
	if err != nil {
		return k, 0, err
	}
	if len(payload) != indexSize {
		return k, 0, ErrMalformed
	}
	return keysOf(state, to, from), binary.BigEndian.Uint64(payload), nil
}

// receive answers a HELLO as node: the WELCOME, which tells index, and the keys.
func receive(random io.Reader, node responder, packet []byte, h hello, index uint64) ([]byte, keys, error) {
	defer func() { node.agreement.ephemeral = nil }() // forward secrecy is to forget
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: node.suite, Random: random, Pattern: noise.HandshakeNK,
		Prologue: append([]byte(prologueLabel), packet[:helloHead]...), StaticKeypair: node.key,
	})
	if err != nil {
		return nil, keys{}, err
	}
	if _, _, _, err := state.ReadMessage(nil, h.noise); err != nil {
		return nil, keys{}, err
	}
	var payload [indexSize]byte
	putIndex(payload[:], index)
	message, to, from, err := state.WriteMessage(nil, payload[:])
	if err != nil {
		return nil, keys{}, err
	}
	return welcome{h.index, message}.append(make([]byte, 0, welcomeSize)), keysOf(state, to, from), nil
}

func keysOf(state *noise.HandshakeState, to, from *noise.CipherState) (k keys) {
	k.toNode, k.fromNode = to.UnsafeKey(), from.UnsafeKey()
	copy(k.hash[:], state.ChannelBinding())
	return k
}

func putIndex(b []byte, index uint64) { binary.BigEndian.PutUint64(b, index) }
