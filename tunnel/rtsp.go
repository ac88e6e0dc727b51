package tunnel

// A ProtocolError ends a tunnel whose client does not speak the protocol of the
// service's type.
type ProtocolError struct {
	Protocol string // "RTSP"
	Reason   string
}

func (e *ProtocolError) Error() string { return "not " + e.Protocol + ": " + e.Reason }

func watch(up, down *flow) {}
