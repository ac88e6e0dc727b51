package pairing

import (
	"time"

	"github.com/keyholed/keyhole/internal/names"
)

// Durations run on the monotonic clock.
const (
	// WindowDuration is how long a press lets clients ask: time to walk from the
	// device to a laptop, and no more. It is never extended, so that one press
	// is one bounded risk.
	WindowDuration = 180 * time.Second

	// PressDuration is how long the person has to compare digits and press, from
	// the moment the digits are shown. It starts after ExchangeDuration's steps
	// are over and ends with the window at the latest.
	PressDuration = 30 * time.Second

	// StepDuration is how long the device waits for a client's next message. A
	// program answers in milliseconds; 5 s carries it over a bad Wi-Fi moment.
	StepDuration = 5 * time.Second

	// ExchangeDuration bounds all steps of an exchange together, from the first
	// message of the client until the digits are shown (or the secret of a later
	// mode is proven), the device's own work for it included.
	ExchangeDuration = 20 * time.Second

	// VanishedDuration is how long after a client's digits vanished a press does
	// nothing: it was meant as a yes to them. A second is a person's reaction
	// time with some reserve.
	VanishedDuration = time.Second
)

// Counts.
const (
	// TriesPerWindow failures end a window.
	TriesPerWindow = 5

	// TriesPerSource is how many of them one source may use: an IPv4 address, or
	// an IPv6 /64, which one host fills alone if it likes.
	TriesPerSource = 2

	// TriesPerLife tries without a success lock pairing until LongPress or Lift.
	// At one chance in a million each, they leave 1 in 10,000.
	TriesPerLife = 100

	// checkDigits are what a person compares without a slip; Bluetooth's numeric
	// comparison uses six as well.
	checkDigits  = 6
	checkModulus = 1_000_000

	// codeDigits of the code on the display: each try is one chance in a hundred
	// million, and eight digits in two groups are typed without a slip.
	codeDigits  = 8
	codeModulus = 100_000_000
)

// What guards a secret that outlives a window: the label's. Its tries count in the
// lifetime as well.
const (
	// FreeFailures of a source cost no time: people mistype.
	FreeFailures = 3

	// FirstDelay follows the third failure of a source and doubles with each further
	// one up to MostDelay: 24 guesses a day in the end.
	FirstDelay = 2 * time.Second
	MostDelay  = time.Hour

	// MaxDelaySources are remembered, by IPv4 address or IPv6 /64: 40 KiB on disk at
	// worst. TriesPerLife is far below it, so that nobody can push himself out.
	MaxDelaySources = 4096

	// labelChars of base 32 are 50 bits: a hundred tries in a lifetime are a chance
	// of one in ten million million.
	labelChars = 10
)

// Figures of invites.
const (
	// TokenBytes are what nobody guesses, whatever he can compute: an invite needs
	// no PAKE, which would keep a short secret from being tried offline.
	TokenBytes = 16

	// InviteNameBytes tell the open invites of a device apart.
	InviteNameBytes = 8

	// InviteLife is how long an invite is good unless its maker says otherwise: the
	// message is read today or tomorrow, or written anew.
	InviteLife = 24 * time.Hour

	// InviteLifeMost and InviteLifeLeast bound what he may say.
	InviteLifeMost  = 7 * 24 * time.Hour
	InviteLifeLeast = time.Minute
)

// Sizes.
const (
	// MaxNameRunes bounds names of users and keys.
	MaxNameRunes = names.MaxRunes

	// NonceBytes is the size of each side's nonce: as many as the hash has, so
	// that a commitment hides it whole.
	NonceBytes = 32

	// CommitmentBytes is the size of a SHA-256.
	CommitmentBytes = 32

	// ExporterBytes is what both sides ask of the TLS exporter.
	ExporterBytes = 32

	// SaltBytes is the size of a code's salt: no table of stretched codes can be
	// made beforehand.
	SaltBytes = 16

	// maxExchangeBytes bounds the name of an exchange as it comes back; ours have 26.
	maxExchangeBytes = 64
)

// What stretching a code costs (argon2id, RFC 9106): memory that a small board
// can spare for a moment, and time that nobody notices once a press. A code is
// good for minutes and guessed at the device alone; this is for who steals the
// record out of the device's memory.
const (
	StretchKiB    = 8 << 10
	StretchPasses = 2
	StretchLanes  = 1
)

// ExporterLabel is the label for the TLS exporter (RFC 8446 §7.5), with an empty
// context and ExporterBytes. RFC 5705 §4 leaves names that begin with
// EXPERIMENTAL to everybody.
const ExporterLabel = "EXPERIMENTAL keyhole/1 pair"
