package store

import (
	"errors"
	"fmt"
	"time"
)

// Errors a caller decides on. They come wrapped, with the key.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("exists already")
	ErrConflict    = errors.New("was changed by somebody else")
	ErrInvalid     = errors.New("invalid")
	ErrClosed      = errors.New("store closed")
	ErrNoResponder = errors.New("nobody answers this subject")
	ErrUnavailable = errors.New("store unavailable")
)

// Limits of what is stored and sent. All sizes are of bytes.
const (
	MaxKeyBytes     = 192      // a device id, its prefix and a few words; every key is held in memory by NATS
	MaxSegments     = 8        // depth of a key or subject
	MaxValueBytes   = 64 << 10 // a record, not a file: certificates and configuration fit
	MaxSubjectBytes = 192
	MaxDataBytes    = 64 << 10 // of one message, answer or log entry
	MaxNameBytes    = 32       // of a consumer

	// SoonDelay is how long PutSoon may keep a value to itself: long enough that
	// a device that attaches, changes network and attaches again is one write.
	SoonDelay = 250 * time.Millisecond
	// SoonKeys bounds what waits: at 150 bytes each some 20 MB.
	SoonKeys = 64 << 10

	// PendingMessages bounds what waits for one subscriber.
	PendingMessages = 64 << 10
	// RequestTimeout holds where a context has no deadline.
	RequestTimeout = 5 * time.Second

	// LogAge and LogBytes bound the log: a consumer that was away for a week
	// starts with what is left.
	LogAge   = 7 * 24 * time.Hour
	LogBytes = 1 << 30
	// ConsumeRetryMin and ConsumeRetryMax bound the delay before a refused
	// message comes again.
	ConsumeRetryMin = 500 * time.Millisecond
	ConsumeRetryMax = time.Minute

	// CloseTimeout bounds Close: systemd waits 90 s, the drain before needs most
	// of them.
	CloseTimeout = 5 * time.Second
)

// CheckKey refuses what is not a key: one to MaxSegments segments of
// [a-z0-9._-]+ joined by "/", at most MaxKeyBytes.
func CheckKey(key string) error {
	if err := segments(key, '/', MaxKeyBytes, true); err != nil {
		return fmt.Errorf("key %q: %w: %w", clip(key), ErrInvalid, err)
	}
	return nil
}

// CheckPrefix refuses what is not a prefix: empty (everything) or whole segments
// of a key with a "/" at the end.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	end := len(prefix) - 1
	if prefix[end] != '/' {
		return fmt.Errorf("prefix %q: %w: does not end in /", clip(prefix), ErrInvalid)
	}
	if err := segments(prefix[:end], '/', MaxKeyBytes, true); err != nil {
		return fmt.Errorf("prefix %q: %w: %w", clip(prefix), ErrInvalid, err)
	}
	return nil
}

// CheckSubject refuses what is not a subject: one to MaxSegments tokens of
// [a-z0-9_-]+ joined by ".", at most MaxSubjectBytes.
func CheckSubject(subject string) error {
	if err := segments(subject, '.', MaxSubjectBytes, false); err != nil {
		return fmt.Errorf("subject %q: %w: %w", clip(subject), ErrInvalid, err)
	}
	return nil
}

// CheckPattern refuses what is not a pattern: a subject in which a token may be
// "*" (any one token), and the last one ">" (one or more tokens).
func CheckPattern(pattern string) error {
	plain := []byte(pattern)
	for i, b := range plain {
		first := i == 0 || plain[i-1] == '.'
		last := i == len(plain)-1
		if b == '*' && first && (last || plain[i+1] == '.') || b == '>' && first && last {
			plain[i] = 'x'
		}
	}
	if err := segments(string(plain), '.', MaxSubjectBytes, false); err != nil {
		return fmt.Errorf("pattern %q: %w: %w", clip(pattern), ErrInvalid, err)
	}
	return nil
}

// CheckName refuses what is not the name of a consumer: 1 to MaxNameBytes of
// [a-z0-9_-].
func CheckName(name string) error {
	if err := segments(name, 0, MaxNameBytes, false); err != nil {
		return fmt.Errorf("consumer %q: %w: %w", clip(name), ErrInvalid, err)
	}
	return nil
}

// CheckValue refuses what is too large to be a record.
func CheckValue(value []byte) error { return checkSize("value", value, MaxValueBytes) }

// CheckData refuses what is too large to be a message.
func CheckData(data []byte) error { return checkSize("message", data, MaxDataBytes) }

func checkSize(what string, b []byte, limit int) error {
	if len(b) > limit {
		return fmt.Errorf("%s of %d bytes: %w: more than %d", what, len(b), ErrInvalid, limit)
	}
	return nil
}

// Matches tells whether a subject matches a pattern, both well formed.
func Matches(pattern, subject string) bool {
	for {
		p, patternRest, patternMore := cut(pattern)
		s, subjectRest, subjectMore := cut(subject)
		switch {
		case p == ">":
			return true
		case p != "*" && p != s:
			return false
		case !patternMore || !subjectMore:
			return patternMore == subjectMore
		}
		pattern, subject = patternRest, subjectRest
	}
}

func cut(s string) (token, rest string, more bool) {
	for i := range len(s) {
		if s[i] == '.' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func segments(s string, separator byte, limit int, dots bool) error {
	if len(s) == 0 {
		return errors.New("empty")
	}
	if len(s) > limit {
		return fmt.Errorf("longer than %d bytes", limit)
	}
	count, length := 1, 0
	for i := range len(s) {
		b := s[i]
		switch {
		case b == separator && separator != 0:
			if length == 0 {
				return errors.New("empty segment")
			}
			count, length = count+1, 0
			continue
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b == '_', b == '-', dots && b == '.':
			length++
		default:
			return fmt.Errorf("byte %q is not allowed", b)
		}
	}
	if length == 0 {
		return errors.New("empty segment")
	}
	if count > MaxSegments {
		return fmt.Errorf("more than %d segments", MaxSegments)
	}
	return nil
}

// clip keeps an error from carrying a megabyte of somebody's nonsense.
func clip(s string) string {
	const enough = 64
	if len(s) > enough {
		return s[:enough] + "…"
	}
	return s
}
