package route

import (
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
)

// TraceConfig says what becomes of W3C Trace Context (https://www.w3.org/TR/trace-context/).
type TraceConfig struct {
	// Keep goes on with the trace that a device names, if it is a valid one: for fleets whose devices take part in tracing. By default the device's is
	// dropped, and a new trace begins at the gateway: else a device could put its calls into the traces of others.
	Keep bool
	// Sampled sets the flag by which upstreams record the trace. It is no device's to set, except where Keep is.
	Sampled bool
}

// traceContext is what one request carries on.
type traceContext struct {
	parent, state string
}

// trace makes the context of one request. Its ids are random, and no secrets.
func (t *Router) trace(h http.Header) traceContext {
	var id [16]byte
	sampled := t.sampled
	var state string
	if t.keepTrace {
		if given, flag, ok := parseTraceParent(h["Traceparent"]); ok {
			state, _ = parseTraceState(h["Tracestate"])
			return traceContext{writeTraceParent(given, flag), state}
		}
	}
	for id == [16]byte{} {
		fillRandom(id[:])
	}
	return traceContext{parent: writeTraceParent(id, sampled)}
}

// fillRandom fills b, whose length is a multiple of 8.
func fillRandom(b []byte) {
	for i := 0; i < len(b); i += 8 {
		n := rand.Uint64()
		for k := range 8 {
			b[i+k] = byte(n >> (8 * k))
		}
	}
}

// writeTraceParent is version 00 (section 3.2.2), with an id of the gateway's own as the parent.
func writeTraceParent(trace [16]byte, sampled bool) string {
	var span [8]byte
	for span == [8]byte{} {
		fillRandom(span[:])
	}
	var b [55]byte
	copy(b[:], "00-")
	hex.Encode(b[3:35], trace[:])
	b[35] = '-'
	hex.Encode(b[36:52], span[:])
	copy(b[52:], "-00")
	if sampled {
		b[54] = '1'
	}
	return string(b[:])
}

// parseTraceParent reads a traceparent of version 00, or what a later version has in common with it (section 4.3). More than one is none.
func parseTraceParent(values []string) (trace [16]byte, sampled, ok bool) {
	if len(values) != 1 {
		return trace, false, false
	}
	v := strings.Trim(values[0], " \t")
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || v[:2] == "ff" || v[:2] == "00" && len(v) != 55 || len(v) > 55 && v[55] != '-' {
		return trace, false, false
	}
	var version, flags [1]byte
	var span [8]byte
	for _, part := range []struct {
		to   []byte
		text string
	}{{version[:], v[:2]}, {trace[:], v[3:35]}, {span[:], v[36:52]}, {flags[:], v[53:55]}} {
		if _, err := hex.Decode(part.to, []byte(part.text)); err != nil || strings.ToLower(part.text) != part.text {
			return trace, false, false
		}
	}
	if trace == [16]byte{} || span == [8]byte{} {
		return trace, false, false
	}
	return trace, flags[0]&1 == 1, true
}

// parseTraceState joins a tracestate's headers, and is not ok where one of its members is none (section 3.3.1): the whole is left out then.
func parseTraceState(values []string) (string, bool) {
	var members []string
	for _, v := range values {
		for m := range strings.SplitSeq(v, ",") {
			if m = strings.Trim(m, " \t"); m != "" {
				members = append(members, m)
			}
		}
	}
	seen := map[string]bool{}
	for _, m := range members {
		key, value, ok := strings.Cut(m, "=")
		if !ok || !traceKey(key) || seen[key] || !traceValue(value) {
			return "", false
		}
		seen[key] = true
	}
	joined := strings.Join(members, ",")
	if len(members) > maxTraceMembers || len(joined) > maxTraceState {
		return "", false
	}
	return joined, true
}

// traceKey is a simple key, or tenant@system.
func traceKey(key string) bool {
	word := func(s string, most int, digit bool) bool {
		if s == "" || len(s) > most || !(s[0] >= 'a' && s[0] <= 'z' || digit && s[0] >= '0' && s[0] <= '9') {
			return false
		}
		return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-*/") == ""
	}
	tenant, system, multi := strings.Cut(key, "@")
	if multi {
		return word(tenant, 241, true) && word(system, 14, false)
	}
	return word(key, 256, false)
}

func traceValue(v string) bool {
	if v == "" || len(v) > 256 || v[len(v)-1] == ' ' {
		return false
	}
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' || v[i] == ',' || v[i] == '=' {
			return false
		}
	}
	return true
}
