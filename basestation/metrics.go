package basestation

import (
	"io"
	"sync/atomic"

	prometheus "github.com/keyholed/keyhole/internal/metrics"
)

// metrics are the counters of one server. They hang on no global, so that several
// servers in one process (tests, the demo) keep their own.
type metrics struct {
	set *prometheus.Set

	attached, gone, moved, duplicates, notEnrolled      *prometheus.Counter
	asked, introduced, refused, limited, flooded        *prometheus.Counter
	unauthorized, keptOut, forwarded, events, badEvents *prometheus.Counter
	packetsIn, packetsOut, packetsLost, notices         *prometheus.Counter
	streams, observed, legs, closedStreams, slowPeers   *prometheus.Counter
	nodeMessages, nodeMessagesLost, relocated           *prometheus.Counter
	calls, finds, found                                 *prometheus.Counter
	introductionTime                                    *prometheus.Histogram
}

// introductionBuckets are seconds from INTRODUCE to INTRODUCED: on loopback a
// millisecond, across the world a third of a second, late ones up to ten.
var introductionBuckets = []float64{.001, .0025, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newMetrics() *metrics {
	s := prometheus.NewSet()
	m := &metrics{set: s, introductionTime: s.NewHistogram("keyhole_introduction_seconds", introductionBuckets...)}
	for _, c := range []struct {
		counter **prometheus.Counter
		name    string
	}{
		{&m.attached, "keyhole_attaches_total"},
		{&m.gone, "keyhole_devices_gone_total"},
		{&m.moved, "keyhole_devices_moved_total"},
		{&m.duplicates, "keyhole_duplicates_total"},
		{&m.notEnrolled, "keyhole_enrolments_refused_total"},
		{&m.asked, "keyhole_introductions_asked_total"},
		{&m.introduced, "keyhole_introductions_total"},
		{&m.refused, "keyhole_introductions_refused_total"},
		{&m.limited, `keyhole_limited_total{what="rate"}`},
		{&m.flooded, `keyhole_limited_total{what="introductions"}`},
		{&m.slowPeers, `keyhole_limited_total{what="slow streams"}`},
		{&m.closedStreams, `keyhole_limited_total{what="connections"}`},
		{&m.unauthorized, "keyhole_introductions_unauthorized_total"},
		{&m.keptOut, "keyhole_introductions_kept_out_total"},
		{&m.forwarded, "keyhole_introductions_forwarded_total"},
		{&m.calls, "keyhole_call_numbers_total"},
		{&m.finds, "keyhole_calls_asked_total"},
		{&m.found, "keyhole_calls_found_total"},
		{&m.events, `keyhole_device_events_total{result="taken"}`},
		{&m.badEvents, `keyhole_device_events_total{result="malformed"}`},
		{&m.packetsIn, `keyhole_packets_total{direction="in"}`},
		{&m.packetsOut, `keyhole_packets_total{direction="out"}`},
		{&m.packetsLost, `keyhole_packets_total{direction="lost"}`},
		{&m.notices, "keyhole_restart_notices_total"},
		{&m.relocated, "keyhole_devices_relocated_total"},
		{&m.streams, `keyhole_connections_total{kind="attach"}`},
		{&m.observed, `keyhole_connections_total{kind="observe"}`},
		{&m.legs, `keyhole_connections_total{kind="relay"}`},
		{&m.nodeMessages, `keyhole_node_messages_total{result="sent"}`},
		{&m.nodeMessagesLost, `keyhole_node_messages_total{result="lost"}`},
	} {
		*c.counter = s.NewCounter(c.name)
	}
	return m
}

// WriteMetrics writes all counters in the text format of Prometheus.
func (s *Server) WriteMetrics(w io.Writer) { s.metrics.set.Write(w) }

// gauges are what there is now, written by the loop at every tick.
type gauges struct{ devices, streams, questions, nodes atomic.Int64 }

func (s *Server) showGauges() {
	for name, value := range map[string]*atomic.Int64{
		"keyhole_devices": &s.gauges.devices, "keyhole_streams": &s.gauges.streams,
		"keyhole_questions": &s.gauges.questions, "keyhole_nodes": &s.gauges.nodes,
	} {
		s.metrics.set.GaugeFunc(name, func() float64 { return float64(value.Load()) })
	}
	s.metrics.set.CounterFunc("keyhole_presence_lost_total", func() float64 { return float64(s.registry.LostPresence()) })
}

func (s *Server) measure() {
	s.gauges.devices.Store(int64(s.hub.node.Devices()))
	s.gauges.streams.Store(int64(s.hub.node.Streams()))
	s.gauges.questions.Store(int64(len(s.hub.questions)))
	s.gauges.nodes.Store(int64(s.fleet.others() + 1))
}
