package pairing

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/keyholed/keyhole/protocol/identity"
)

// SupportPass is what a hotline shows with its introduction: that it was read the call
// number of this device. It lets nobody in; without it strangers who know the id of a
// device could have it open ways to them while a code waits.
//
//	HMAC-SHA256 under the 6 digits of the call number over
//	"keyhole/1 support call", one zero byte, id of the device 26, fingerprint of the client 32
func SupportPass(number string, device identity.ID, client identity.Fingerprint) []byte {
	m := hmac.New(sha256.New, []byte(number))
	m.Write([]byte("keyhole/1 support call\x00"))
	m.Write([]byte(device))
	m.Write(client[:])
	return m.Sum(nil)
}

// CheckSupportPass tells whether a pass is that of this call number.
func CheckSupportPass(pass []byte, number string, device identity.ID, client identity.Fingerprint) bool {
	return hmac.Equal(pass, SupportPass(number, device, client))
}
