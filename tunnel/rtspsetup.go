package tunnel

import "strings"

// setup says what becomes of a SETUP request.
type setup int

const (
	setupPass    setup = iota // as it is
	setupRewrite              // with the TCP alternatives alone
	setupRefuse               // it offers nothing that a tunnel could carry
)

// judge looks at the transports a SETUP offers. A request may list several, the
// best first, and a server takes the first it can: as long as UDP is among
// them the pictures would leave beside the tunnel and never arrive, so only the
// alternatives over TCP are left. That changes what the client offers to what
// it can have, which is the one change ever made to its bytes.
func (m *rtspMessage) judge() (setup, []string) {
	var tcp []string
	offered, kept := 0, 0
	for _, f := range m.fields {
		if f.name != "transport" {
			continue
		}
		for _, spec := range splitQuoted(f.value, ',') {
			if spec = strings.TrimSpace(spec); spec == "" {
				continue
			}
			offered++
			if overTCP(spec) {
				kept++
				tcp = append(tcp, spec)
			}
		}
	}
	switch {
	case m.method != "SETUP" || offered == kept:
		return setupPass, nil // a SETUP without a Transport is the server's to refuse
	case kept == 0:
		return setupRefuse, nil
	}
	return setupRewrite, tcp
}

// overTCP says whether a transport-spec travels in the RTSP connection. Its
// first part is transport/profile[/lower-transport]; for RTP no lower transport
// means UDP (RFC 2326 §12.39). Some players write interleaved= and leave the
// /TCP away.
func overTCP(spec string) bool {
	parts := splitQuoted(spec, ';')
	protocol := strings.Split(strings.TrimSpace(parts[0]), "/")
	if len(protocol) > 2 {
		return strings.EqualFold(protocol[len(protocol)-1], "TCP")
	}
	for _, parameter := range parts[1:] {
		name, _, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "interleaved") {
			return true
		}
	}
	return false
}

// splitQuoted splits at sep outside of quotation marks.
func splitQuoted(s string, sep byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// rewrite is the raw header with one Transport field of the given specs.
func (m *rtspMessage) rewrite(raw []byte, specs []string) []byte {
	out := make([]byte, 0, len(raw))
	at, done := 0, false
	for _, f := range m.fields {
		if f.name != "transport" {
			continue
		}
		out = append(out, raw[at:f.start]...)
		if !done {
			out = append(out, "Transport: "+strings.Join(specs, ",")+"\r\n"...)
			done = true
		}
		at = f.end
	}
	return append(out, raw[at:]...)
}

// refusal is the answer to a SETUP that offers UDP only (RFC 2326 §11.3.14).
// Players then ask again for interleaved TCP.
func (m *rtspMessage) refusal() []byte {
	answer := m.version + " 461 Unsupported Transport\r\nCSeq: " + m.cseq + "\r\n"
	if m.session != "" {
		answer += "Session: " + m.session + "\r\n"
	}
	return []byte(answer + "\r\n")
}
