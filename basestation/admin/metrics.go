package admin

import (
	"net/http"

	"github.com/keyholed/keyhole/internal/metrics"
)

// buckets of the time that answers take, in seconds: from a look into memory to a
// page out of a million devices.
var buckets = []float64{0.001, 0.005, 0.02, 0.1, 0.5, 2, 10}

// counts are the API's own numbers.
type counts struct {
	unauthorized *metrics.Counter
	took         map[string]*metrics.Histogram // by method and path, as failed
	failed       map[string]*metrics.Counter
}

func newCounts(s *metrics.Set) *counts {
	c := &counts{
		unauthorized: s.NewCounter("keyhole_api_unauthorized_total"),
		took:         map[string]*metrics.Histogram{}, failed: map[string]*metrics.Counter{},
	}
	for _, r := range routes {
		name, labels := r.Method+" "+r.Path, `{method="`+r.Method+`",route="`+r.Path+`"}`
		c.failed[name] = s.NewCounter("keyhole_api_failures_total" + labels)
		if !r.stream {
			c.took[name] = s.NewHistogram("keyhole_api_request_seconds"+labels, buckets...)
		}
	}
	return c
}

func (s *Server) showMetrics(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, write := range s.Metrics {
		write(w)
	}
	s.own.Write(w)
	return nil
}
