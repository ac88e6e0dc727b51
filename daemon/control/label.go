package control

import "github.com/keyholed/keyhole/protocol/identity"

// LabelRoute makes the code for the device's sticker: POST LabelOrder, answers Label.
const LabelRoute = "/v1/label"

// LabelOrder asks for a label.
type LabelOrder struct {
	Replace bool `json:"replace,omitempty"` // even if there is one
}

// Label is what goes on the sticker. The device tells it once and keeps a verifier.
type Label struct {
	ID   identity.ID `json:"id"`
	Code string      `json:"code"` // grouped, "7K3MN-Q8ZTA"
	Link string      `json:"link"` // the same and the id as a keyhole: link, for the QR code
}
