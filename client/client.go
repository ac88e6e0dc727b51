// Package client is how a program finds Keyhole devices, pairs with them and
// reaches their services. The command keyhole is made of it, and an app can be:
//
//	home, err := client.Open(dir)            // identity and address book
//	conn, err := home.Dial(ctx, "Front door", client.DialOptions{})
//	stream, err := conn.Connect(ctx, "rtsp", "rtsp") // a net.Conn to the camera
//
// A Home is a directory with the client's own key and the devices it knows. Find
// looks for devices on the local network, Pair becomes a user of one, Dial opens
// a session, and a Line keeps one up while its device comes and goes, and moves it to
// the path that delivers most. Forward gives a service a local port that web pages
// and other users cannot misuse.
//
// A device that is not on this network is met through its basestation, of which it
// has told: see Home.Dial. The basestation can refuse; what it says is believed only
// as far as the device has signed it, and the session proves the rest.
//
// What the device says is checked against the key that is pinned in the address
// book, before anything is sent to it. Where nothing was known beforehand, which
// happens with Pair and with a bare address, Conn.Trust says so and it is for the
// caller to tell the person.
//
// Errors that a person can do something about have types: *NotFoundError,
// *AmbiguousError, *UnreachableError, *identity.MismatchError and *api.Problem,
// which is the device's own answer.
package client

import (
	"time"

	"github.com/keyholed/keyhole/pairing"
)

const (
	// DefaultPort of devices, TCP and UDP.
	DefaultPort = 7443

	// FindTime is how long looking for devices by mDNS usually takes to be
	// complete: three questions with a second between them, and the answers.
	FindTime = 3 * time.Second

	// PressTime is how long a device waits for the confirming press.
	PressTime = pairing.PressDuration

	// maxAnswerBytes bounds a JSON answer: a page of 1000 audit entries is well
	// under 1 MiB.
	maxAnswerBytes = 8 << 20
)
