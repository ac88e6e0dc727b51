package pairing

import "time"

// Durations of support. They run on the monotonic clock.
const (
	// SupportCodeDuration is how long a support code may be claimed: a person reads two
	// numbers to somebody who types them, and no more. A basestation keeps the call number
	// as long.
	SupportCodeDuration = 5 * time.Minute

	// SupportDuration is how long somebody who has proven the code may stay: a long
	// telephone call. It is never extended.
	SupportDuration = 30 * time.Minute

	// ControlDuration is how long the display asks whether the hotline may control the
	// device: time to find the button while somebody on the telephone explains it.
	ControlDuration = time.Minute

	// ControlsPerSession is how often it may ask: who was not answered three times was
	// refused.
	ControlsPerSession = 3
)

// Counts of support.
const (
	// TriesPerSupportCode proofs of a code may be begun: a slip of the tongue, one of the
	// finger, and one more.
	TriesPerSupportCode = 3

	// SupportCodesPerHour and SupportCodesPerDay bound how often the device shows a new
	// one. With six digits that leaves a guesser 30 chances in a million a day, if a
	// person presses the button ten times.
	SupportCodesPerHour = 3
	SupportCodesPerDay  = 10

	// SupportDigits is the length of a support code; SupportDigitsShort only where the
	// hotline must prove the vendor's key beside it.
	SupportDigits      = 6
	SupportDigitsShort = 4
)

// How a day is counted. The device may not know the time, and knows that it was
// switched off but not for how long, so only running time makes a code old: its age
// is kept on disk with it. A restart goes on with the age that was kept last.
const (
	// youngEvery is how often ages are kept while there is a code of the last hour, so
	// that a restart costs a person at most ten minutes more of waiting.
	youngEvery = 10 * time.Minute

	// oldEvery is how often they are kept else, until the last code is a day old.
	oldEvery = time.Hour

	hour, day = time.Hour, 24 * time.Hour
)
