package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

// chained is a key with n certificates, each padded with so many bytes.
func chained(t testing.TB, n, padding int) (*identity.Key, tls.Certificate) {
	t.Helper()
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	var chain [][]byte
	for i := range n {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "somebody"},
			ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, padding)}},
		}
		issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "an authority"}}
		chain = append(chain, must(x509.CreateCertificate(rand.Reader, template, issuer, private.Public(), private)))
	}
	k := must(identity.New(private))
	if with, err := k.WithChain(chain); err == nil {
		k = with
	}
	return k, tls.Certificate{Certificate: chain, PrivateKey: private}
}

// What a session's peer shows beside its key is handed on within bounds, and whoever
// vouches for it is told when the session has ended.
func TestChainsAreHandedOn(t *testing.T) {
	var came, left atomic.Int32
	vouches := true
	s := startDeviceOf(t, Config{
		Key: newKey(t),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !FromRequest(r).Info().Paired {
				w.WriteHeader(http.StatusForbidden)
			}
		}),
		Vouch: func(i Info) func() {
			if !vouches {
				return nil
			}
			came.Add(int32(len(i.Chain)))
			return func() { left.Add(int32(len(i.Chain))) }
		},
	})
	for _, c := range []struct {
		n, padding int
		want       int32
	}{{1, 0, 1}, {4, 2500, 4}, {1, 9000, 1}} {
		for _, path := range []Path{PathTCP, PathQUIC} {
			k, _ := chained(t, c.n, c.padding)
			came.Store(0)
			left.Store(0)
			client := s.dial(t, k, path, -1)
			answer := must(client.RoundTrip(must(http.NewRequest("GET", "https://x/", nil))))
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusOK || came.Load() != c.want || left.Load() != 0 {
				t.Errorf("%s, %d certificates: %d, came %d, left %d", path, c.n, answer.StatusCode, came.Load(), left.Load())
			}
			client.Close()
			testnet.Until(t, "the session has ended", func() bool { return left.Load() == c.want })
		}
	}
	k, _ := chained(t, 1, 0)
	vouches = false
	answer := must(s.dial(t, k, PathTCP, -1).RoundTrip(must(http.NewRequest("GET", "https://x/", nil))))
	if _ = answer.Body.Close(); answer.StatusCode != http.StatusForbidden {
		t.Errorf("nobody vouches: %d", answer.StatusCode)
	}
}

// A chain that is too large is worth nothing; one that is far too large does not
// get to be parsed.
func TestLargeChains(t *testing.T) {
	s := startDeviceOf(t, Config{
		Key: newKey(t),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if FromRequest(r).Info().Chain != nil {
				w.WriteHeader(http.StatusTeapot)
			}
		}),
		Vouch: func(Info) func() { t.Error("somebody was asked to vouch for it"); return nil },
	})
	for _, c := range []struct {
		name       string
		n, padding int
		in         bool
	}{
		{"five", 5, 0, true},
		{"20 KiB", 2, 10 << 10, true},
		{"40 KiB", 4, 10 << 10, false},
		{"200 KiB", 4, 50 << 10, false},
	} {
		_, certificate := chained(t, c.n, c.padding)
		conn, err := tls.Dial("tcp", s.tcp, &tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil },
		})
		status := 0
		if err == nil {
			client := http.Client{Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
			var answer *http.Response
			if answer, err = client.Get("https://device/"); err == nil {
				status = answer.StatusCode
				_ = answer.Body.Close()
			}
			_ = conn.Close()
		}
		if (err == nil) != c.in || c.in && status != http.StatusOK {
			t.Errorf("%s: %d, %v, want in: %v", c.name, status, err, c.in)
		}
	}
}

// A session with nothing but its key costs what it always did.
func TestNoChainCostsNothing(t *testing.T) {
	k := must(identity.Generate())
	block, _ := pem.Decode(k.CertificatePEM())
	certificate := must(x509.ParseCertificate(block.Bytes))
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}
	if n := testing.AllocsPerRun(100, func() { _ = identity.ChainOf(state) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if identity.ChainOf(state) != nil || k.Chain() != nil {
		t.Error("a self-signed certificate is a chain")
	}
}
