package natsstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Figures of the connection to an external NATS.
const (
	reconnectPause  = 100 * time.Millisecond // between two rounds over all servers
	reconnectJitter = 200 * time.Millisecond
	pingInterval    = 2 * time.Second // two unanswered: the connection is dead
	dialTimeout     = 3 * time.Second
)

// connect tries all servers again and again until ctx ends, and afterwards keeps
// the connection up by itself.
func (c Config) connect(ctx context.Context) (*nats.Conn, error) {
	options, err := c.options()
	if err != nil {
		return nil, err
	}
	for told := false; ; told = true {
		conn, err := nats.Connect(c.URL, options...)
		if err == nil {
			if err := newEnough(conn.ConnectedServerVersion()); err != nil {
				conn.Close()
				return nil, err
			}
			return conn, nil
		}
		if errors.Is(err, nats.ErrAuthorization) || !told {
			c.Log.Warn("nats does not take the connection", "url", redacted(c.URL), "error", err)
		}
		pause := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("nats %s: %w", redacted(c.URL), errors.Join(err, ctx.Err()))
		case <-pause.C:
		}
	}
}

func (c Config) options() ([]nats.Option, error) {
	options := append(c.common(),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectPause),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.PingInterval(pingInterval),
		nats.Timeout(dialTimeout),
		// What cannot be sent now is refused now: a heartbeat that comes late tells
		// something that is no longer true.
		nats.ReconnectBufSize(-1),
	)
	encrypted, err := c.encryption()
	if err != nil {
		return nil, err
	}
	if encrypted != nil {
		options = append(options, nats.Secure(encrypted))
	}
	if c.Credentials != "" {
		if _, err := os.Stat(c.Credentials); err != nil {
			return nil, fmt.Errorf("nats credentials: %w", err)
		}
		options = append(options, nats.UserCredentials(c.Credentials))
	}
	return options, nil
}

// common are the options of both kinds of connection.
func (c Config) common() []nats.Option {
	log := c.Log
	return []nats.Option{
		nats.Name("keyhole-basestation"),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("nats connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(conn *nats.Conn) {
			log.Info("nats connection is back", "server", conn.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			log.Warn("nats", "subject", subject, "error", err)
		}),
	}
}

// encryption returns nil where the connection may be plain: to this machine, or
// where the operator said so. Where it is not nil NATS must speak TLS.
func (c Config) encryption() (*tls.Config, error) {
	plain := c.Plain
	if !plain {
		plain = true
		for _, each := range strings.Split(c.URL, ",") {
			u, err := url.Parse(strings.TrimSpace(each))
			if err != nil || u.Hostname() == "" {
				return nil, errors.New("nats URL: want nats://host:port or tls://host:port, several with commas")
			}
			ip := net.ParseIP(u.Hostname())
			local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
			plain = plain && local && u.Scheme != "tls"
		}
	}
	if plain && c.CA == "" && c.Certificate == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("nats CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("nats CA: no certificate in %s", c.CA)
		}
	}
	if (c.Certificate == "") != (c.Key == "") {
		return nil, errors.New("nats: want a certificate and its key, or neither")
	}
	if c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("nats certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// newEnough refuses a server without atomic batches, with words instead of a
// strange error later.
func newEnough(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major < 2 || major == 2 && minor < 12 {
		return fmt.Errorf("nats-server %s is too old: want 2.12 or later", version)
	}
	return nil
}

// redacted keeps passwords out of the log.
func redacted(urls string) string {
	var clean []string
	for _, each := range strings.Split(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(each))
		if err != nil {
			clean = append(clean, "…")
			continue
		}
		if u.User != nil {
			u.User = url.User("…")
		}
		clean = append(clean, u.String())
	}
	return strings.Join(clean, ",")
}

// closeConnection waits for the connection's goroutines to know that it is over.
func closeConnection(conn *nats.Conn) {
	closed := make(chan struct{})
	var once sync.Once
	conn.SetClosedHandler(func(*nats.Conn) { once.Do(func() { close(closed) }) })
	if conn.IsClosed() {
		return
	}
	conn.Close()
	<-closed
}
