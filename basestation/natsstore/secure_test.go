package natsstore_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/internal/testnats"
)

// TestSecure: a cluster that wants TLS of both sides and a password gets them,
// and nothing leaves without when it was asked for.
func TestSecure(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	cluster := testnats.Start(t, 1, func(ip string) string {
		certify(t, dir, ip)
		return fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n"+
			"authorization { user: base, password: \"secret\" }\n", file("cert.pem"), file("key.pem"), file("cert.pem"))
	})
	address := cluster.Servers[0].Address()
	good := natsstore.Config{URL: "tls://base:secret@" + address, CA: file("cert.pem"), Certificate: file("cert.pem"), Key: file("key.pem")}
	s := external(t, good)
	if _, err := s.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for name, harm := range map[string]func(c *natsstore.Config){
		"wrong password": func(c *natsstore.Config) { c.URL = "tls://base:wrong@" + address },
		"no certificate": func(c *natsstore.Config) { c.Certificate, c.Key = "", "" },
		"unknown CA":     func(c *natsstore.Config) { c.CA = "" },
	} {
		c := good
		harm(&c)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		s, err := natsstore.Open(ctx, c)
		cancel()
		if err == nil {
			t.Errorf("%s: taken", name)
			s.Close()
			continue
		}
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong@") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

// TestPlainIsRefused: beyond this machine the connection is encrypted, or the
// operator has said that it need not be.
func TestPlainIsRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	went := make(chan string, 100)
	go func() { // a server without TLS
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, `INFO {"server_id":"x","version":"2.15.2","proto":1,"max_payload":1048576}`+"\r\n")
			buffer := make([]byte, 1024)
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, _ := conn.Read(buffer) // what is not there was not sent
			went <- string(buffer[:n])
			conn.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = natsstore.Open(ctx, natsstore.Config{URL: "tls://name:secret@" + listener.Addr().String()})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
	if text := <-went; strings.Contains(text, "CONNECT") {
		t.Errorf("sent in the clear: %q", text)
	}
}

// certify writes cert.pem and key.pem: one key that is CA, server and client.
func certify(t *testing.T, dir, ip string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nats.example.net"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	template.IPAddresses = []net.IP{net.ParseIP(ip)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
