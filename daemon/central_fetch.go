package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keyholed/keyhole/internal/version"
	"github.com/keyholed/keyhole/protocol/central"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Limits of fetching the list.
const (
	fetchTimeout   = time.Minute // for 1 MiB on a slow line; the next poll is a minute away at least
	connectTimeout = 15 * time.Second
	maxETagBytes   = 256
	maxRootsBytes  = 1 << 20
)

// errUnchanged means that the server has no other list than the one it sent last.
var errUnchanged = errors.New("not changed")

// A listSource is the vendor's server. What it sends counts by its signature; TLS keeps
// others from seeing who asks and from answering.
type listSource struct {
	url    string
	client *http.Client
	etag   string // of what was sent last; owned by the list task
}

// newListSource reads roots, a PEM file, where one is named. now is the time by which
// the server's certificate is judged.
func newListSource(template string, device identity.ID, roots string, now func() time.Time) (*listSource, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, Time: now}
	if roots != "" {
		data, err := readPublic(roots, maxRootsBytes)
		if err != nil {
			return nil, fmt.Errorf("central.roots: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("central.roots: there is no certificate in %s", roots)
		}
	}
	transport := &http.Transport{
		TLSClientConfig: config, TLSHandshakeTimeout: connectTimeout, ResponseHeaderTimeout: connectTimeout,
		DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
		MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, DisableKeepAlives: true,
	}
	return &listSource{
		url: strings.ReplaceAll(template, "{id}", string(device)),
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the configuration names the server
		}},
	}, nil
}

// fetch asks for the list: errUnchanged when it is the one that was sent last.
func (s *listSource) fetch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jose")
	r.Header.Set("User-Agent", "keyholed/"+version.String())
	if s.etag != "" {
		r.Header.Set("If-None-Match", s.etag)
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, errUnchanged
	default:
		return nil, fmt.Errorf("the server answers %d", answer.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, central.MaxListBytes+2))
	if err != nil {
		return nil, withoutURL(err)
	}
	token := strings.TrimSuffix(string(data), "\n")
	if len(token) > central.MaxListBytes {
		return nil, fmt.Errorf("the list is longer than %d bytes", central.MaxListBytes)
	}
	s.etag = ""
	if tag := answer.Header.Get("ETag"); len(tag) <= maxETagBytes {
		s.etag = tag
	}
	return []byte(token), nil
}

// forget has the server send the whole list the next time.
func (s *listSource) forget() { s.etag = "" }

func (s *listSource) close() { s.client.CloseIdleConnections() }

// withoutURL leaves out the address, which may hold a secret of the vendor's.
func withoutURL(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		return inURL.Err
	}
	return err
}
