package api

// SupportOffer is in Hello while the display shows a support code: how to stretch what is
// typed. The numbers are those of this version of the protocol; a client refuses others.
type SupportOffer struct {
	Salt   string `json:"salt" doc:"hex of the 16 byte salt of the code that is shown now"`
	KiB    int    `json:"kib" doc:"memory for argon2id: 8192"`
	Passes int    `json:"passes" doc:"passes over it: 2"`
	Lanes  int    `json:"lanes" doc:"lanes: 1"`
	Digits int    `json:"digits" doc:"of the code: 6, or 4 with the vendor's key"`
	Vendor bool   `json:"vendor,omitempty" doc:"whether the vendor's support key must be proven too"`
}

// SupportBegin starts to prove a support code: POST /v1/support. The exchange is SPAKE2+
// (RFC 9383) with the client as prover; see package pairing.
type SupportBegin struct {
	Share     string `json:"share" doc:"hex of the client's share, an uncompressed point of P-256"`
	VendorKey string `json:"vendor_key,omitempty" doc:"hex of the vendor's public support key, SubjectPublicKeyInfo in DER"`
	Signature string `json:"vendor_signature,omitempty" doc:"hex of its signature over device, client and this session"`
}

// SupportChallenge is the device's answer to SupportBegin.
type SupportChallenge struct {
	Exchange string `json:"exchange" doc:"names this exchange in the next message"`
	Share    string `json:"share" doc:"hex of the device's share"`
	Confirm  string `json:"confirm" doc:"hex of the device's proof"`
}

// SupportConfirm proves the code: POST /v1/support/confirm.
type SupportConfirm struct {
	Exchange string `json:"exchange"`
	Confirm  string `json:"confirm" doc:"hex of the client's proof"`
}

// Support is how support is: GET /v1/support, and the answer when the code was proven.
type Support struct {
	State       string `json:"state" doc:"idle, waiting or session"`
	SecondsLeft int    `json:"seconds_left" doc:"of the code or the session; 0 when idle"`
	Control     string `json:"control" doc:"no, asked or allowed: whether the hotline may use services"`
	AskedLeft   int    `json:"asked_left,omitempty" doc:"seconds in which somebody at the device may allow control"`
	Mine        bool   `json:"mine,omitempty" doc:"whether the session is the asker's"`
	Device      string `json:"device,omitempty" doc:"the device's name, in the answer to a proven code"`
}
