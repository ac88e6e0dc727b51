package main

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
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"
)

// A contender is one way to carry a connection from a local port to the
// service. All run from the beginning to the end of the bench.
type contender struct {
	name           string
	local          string // where a viewer connects
	device, client *process
	relay          *process // between the two; nil: none
	idle           [2]int   // memory of the device side before any tunnel: all, anonymous
	results        []result
	held           []holding
}

// weighed is the side whose memory counts: the relay where there is one.
func (c *contender) weighed() *process {
	if c.relay != nil {
		return c.relay
	}
	return c.device
}

type bench struct {
	settings
	dir        string
	service    string // its address
	started    []*process
	contenders []*contender
	missing    []string // contenders that are not installed
}

// stop ends what was started, in reverse order.
func (b *bench) stop() {
	for i := len(b.started) - 1; i >= 0; i-- {
		b.started[i].end()
	}
}

const rawTLS, rawQUIC, ownTCP, ownQUIC = "raw crypto/tls", "raw quic-go", "keyhole tcp", "keyhole quic"

// A starter knows how to start a contender.
type starter struct {
	name  string
	start func(context.Context, *contender) error
}

// prepare starts the service and every contender that is wanted and there.
func (b *bench) prepare(ctx context.Context) error {
	_, said, err := b.startRole("service", "", "")
	if err != nil {
		return err
	}
	b.service = said[0]
	contenders := []starter{
		{"plain proxy", b.roles("plain", "plain", "")},
		{"haproxy", b.haproxy},
		{rawTLS, b.roles("tls-device", "tls-client", "tcp ")},
		{"stunnel4", b.stunnel},
		{"ssh -L", b.ssh},
		{ownTCP, b.roles("keyhole-device", "keyhole-client", "tcp ")},
		{rawQUIC, b.roles("quic-device", "quic-client", "")},
		{ownQUIC, b.roles("keyhole-device", "keyhole-client", "quic ")},
	}
	if b.relay {
		contenders = b.relayContenders()
	}
	for _, c := range contenders {
		if !b.wanted(c.name) {
			continue
		}
		running := &contender{name: c.name}
		if err := c.start(ctx, running); err != nil {
			b.missing = append(b.missing, fmt.Sprintf("%s: %v", c.name, err))
			continue
		}
		running.idle[0], running.idle[1] = running.weighed().resident()
		b.contenders = append(b.contenders, running)
	}
	return ctx.Err()
}

// roles are both sides played by this program.
func (b *bench) roles(device, client, extra string) func(context.Context, *contender) error {
	return func(_ context.Context, c *contender) error {
		d, said, err := b.startRole(device, b.service, "")
		if err != nil {
			return err
		}
		pin := strings.Join(said[1:], " ")
		k, local, err := b.startRole(client, said[0], extra+pin)
		if err != nil {
			return err
		}
		c.device, c.client, c.local = d, k, local[0]
		return nil
	}
}

func (b *bench) file(name, text string) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// pair starts the device side and then the client side of a foreign program.
// config gives the text for one side that listens and connects there.
func (b *bench) pair(ctx context.Context, c *contender, config func(side, listen, to string) string, command func(file string) []string) error {
	device, err := freePort()
	if err != nil {
		return err
	}
	if c.local, err = freePort(); err != nil {
		return err
	}
	for _, side := range []struct {
		name, listen, to string
		process          **process
	}{{"device", device, b.service, &c.device}, {"client", c.local, device, &c.client}} {
		file, err := b.file(strings.Fields(c.name)[0]+"-"+side.name+".conf", config(side.name, side.listen, side.to))
		if err != nil {
			return err
		}
		argv := command(file)
		if *side.process, err = b.startProgram(ctx, side.listen, argv[0], argv[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) haproxy(ctx context.Context, c *contender) error {
	return b.pair(ctx, c, func(_, listen, to string) string {
		return fmt.Sprintf("global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\nlisten l\n bind %s\n server s %s\n", listen, to)
	}, func(file string) []string { return []string{"/usr/sbin/haproxy", "-db", "-f", file} })
}

// stunnel authenticates both sides with pinned P-256 certificates and TLS 1.3,
// as the others do.
func (b *bench) stunnel(ctx context.Context, c *contender) error {
	for _, side := range []string{"device", "client"} {
		text, err := selfSigned()
		if err != nil {
			return err
		}
		if _, err := b.file("stunnel-"+side+".pem", text); err != nil {
			return err
		}
	}
	return b.pair(ctx, c, func(side, listen, to string) string {
		other := map[string]string{"device": "client", "client": "device"}[side]
		kind := map[string]string{"device": "no", "client": "yes"}[side]
		return fmt.Sprintf("foreground = yes\ndebug = err\npid =\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"+
			"[t]\nclient = %s\naccept = %s\nconnect = %s\ncert = %s\nCAfile = %s\nverifyPeer = yes\nsslVersionMin = TLSv1.3\n",
			kind, listen, to, filepath.Join(b.dir, "stunnel-"+side+".pem"), filepath.Join(b.dir, "stunnel-"+other+".pem"))
	}, func(file string) []string { return []string{"stunnel4", file} })
}

func selfSigned() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}

// ssh runs a server of its own with keys of its own, and one connection with
// -L through it. Its defaults stand.
func (b *bench) ssh(ctx context.Context, c *contender) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	if me.Uid == "0" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // what its service file makes
			return err
		}
	}
	for _, name := range []string{"ssh-host", "ssh-user"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(b.dir, name)).CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	device, err := freePort()
	if err != nil {
		return err
	}
	if c.local, err = freePort(); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(device)
	conf, err := b.file("sshd.conf", fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s/ssh-host\nAuthorizedKeysFile %s/ssh-user.pub\n"+
		"StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin prohibit-password\nMaxSessions 5000\n", host, port, b.dir, b.dir))
	if err != nil {
		return err
	}
	if c.device, err = b.startProgram(ctx, device, "/usr/sbin/sshd", "-D", "-e", "-f", conf); err != nil {
		return err
	}
	c.client, err = b.startProgram(ctx, c.local, "ssh", "-N", "-F", "none", "-i", filepath.Join(b.dir, "ssh-user"),
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
		"-L", c.local+":"+b.service, "-p", port, me.Username+"@"+host)
	return err
}
