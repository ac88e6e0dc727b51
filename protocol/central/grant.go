package central

import (
	"crypto"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/keyholed/keyhole/internal/names"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Figures of a grant.
const (
	// MaxGrantBytes fits into one packet beside the introduction it goes with.
	MaxGrantBytes = 512
	// MaxLife is the longest that a grant may hold: who is to be put
	// out by the vendor is out within the hour.
	MaxLife = time.Hour
	// maxGrantRoles is more than fit beside the rest.
	maxGrantRoles = 8
)

// A Grant lets one client be somebody on one device for a while. Its claims:
//
//	aud    id of the device
//	cnf    {"spki": fingerprint of the client's key: base64url of 32 bytes}
//	att    hash of the device's present attach: base64url of 32 bytes
//	jti    1 to 64 of A-Z a-z 0-9 . _ -, never used before
//	sub    who the client is to the vendor: 1 to 64 printable characters
//	roles  what he may be: 1 to 8 names
//	exp    when it must have reached the device, in seconds since 1970
//	life   how many seconds it holds from when the device has it, 1 to 3600
//
// All are needed. "cnf" is the confirmation claim of RFC 7800, with a member of
// our own: the SHA-256 of the SubjectPublicKeyInfo, where RFC 8705 has that of a
// certificate and RFC 9449 that of a JWK.
type Grant struct {
	Device  identity.ID
	Client  identity.Fingerprint
	Attach  [32]byte
	ID      string
	Subject string
	Roles   []string
	Expires time.Time     // when it must have reached the device; to the second
	Life    time.Duration // to the second
}

type grantClaims struct {
	Audience string       `json:"aud"`
	Confirm  confirmation `json:"cnf"`
	Attach   string       `json:"att"`
	ID       string       `json:"jti"`
	Subject  string       `json:"sub"`
	Roles    []string     `json:"roles"`
	Expires  int64        `json:"exp"`
	Life     int64        `json:"life"`
}

type confirmation struct {
	Key string `json:"spki"`
}

var (
	grantID  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	roleName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
)

// maxSeconds is the year 9999, the last that can be written down.
const maxSeconds = 253402300799

// ReadGrant checks the form of a grant and that one of the keys has signed it.
// What it says may still be about another device, client, attach or time, or
// have been said before. Errors: ErrMalformed, ErrSignature.
func (k Keys) ReadGrant(token []byte) (Grant, error) {
	text, err := k.open(token, typeGrant, MaxGrantBytes)
	if err != nil {
		return Grant{}, fmt.Errorf("grant: %w", err)
	}
	var c grantClaims
	if err := decodeJSON(text, &c, "aud", "cnf", "spki", "att", "jti", "sub", "roles", "exp", "life"); err != nil {
		return Grant{}, fmt.Errorf("grant: %w", err)
	}
	g, err := c.grant()
	if err != nil {
		return Grant{}, fmt.Errorf("grant: %w", err)
	}
	return g, nil
}

func (c grantClaims) grant() (g Grant, err error) {
	wrong := func(claim string) (Grant, error) { return Grant{}, fmt.Errorf("%w: claim %s", ErrMalformed, claim) }
	if g.Device, err = identity.ParseID(c.Audience); err != nil {
		return wrong("aud")
	}
	client, err := digest(c.Confirm.Key)
	if err != nil || client == [32]byte{} {
		return wrong("cnf")
	}
	g.Client = client
	if g.Attach, err = digest(c.Attach); err != nil {
		return wrong("att")
	}
	if g.Subject, err = names.Check(c.Subject); err != nil || g.Subject != c.Subject {
		return wrong("sub")
	}
	switch {
	case !grantID.MatchString(c.ID):
		return wrong("jti")
	case !goodRoles(c.Roles):
		return wrong("roles")
	case c.Expires <= 0 || c.Expires > maxSeconds:
		return wrong("exp")
	case c.Life <= 0 || c.Life > int64(MaxLife/time.Second):
		return wrong("life")
	}
	g.ID, g.Roles = c.ID, c.Roles
	g.Expires, g.Life = time.Unix(c.Expires, 0), time.Duration(c.Life)*time.Second
	return g, nil
}

// goodRoles: some, each once, each a name.
func goodRoles(roles []string) bool {
	for i, r := range roles {
		if !roleName.MatchString(r) || slices.Contains(roles[:i], r) {
			return false
		}
	}
	return len(roles) > 0 && len(roles) <= maxGrantRoles
}

// Sign makes the token, at most MaxGrantBytes long, with a key of ECDSA P-256.
func (g Grant) Sign(key crypto.Signer) (string, error) {
	c := grantClaims{
		Audience: string(g.Device), Confirm: confirmation{encoding.EncodeToString(g.Client[:])}, Attach: encoding.EncodeToString(g.Attach[:]),
		ID: g.ID, Subject: g.Subject, Roles: g.Roles, Expires: g.Expires.Unix(), Life: int64(g.Life / time.Second),
	}
	if _, err := c.grant(); err != nil {
		return "", fmt.Errorf("grant: %w", err)
	}
	token, err := sign(key, typeGrant, c)
	if err == nil && len(token) > MaxGrantBytes {
		err = fmt.Errorf("grant: %d bytes, at most %d fit: shorten sub, jti or roles", len(token), MaxGrantBytes)
	}
	if err != nil {
		return "", err
	}
	return token, nil
}

func digest(text string) (d [32]byte, err error) {
	b, err := decode([]byte(text), len(d))
	if err != nil || len(b) != len(d) {
		return d, ErrMalformed
	}
	return [32]byte(b), nil
}
