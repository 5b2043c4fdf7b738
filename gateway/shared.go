package gateway

// Shared credentials. An attacker who has one that a test bench shares can have as many devices certified as hanaperd's lot for it has places left, in an
// environment whose officers call it development and allow this; there is nothing else here that it opens. In any other environment its certificate is refused in
// the handshake, and so are those of the devices that came by it.

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/trust"
)

// The extended key usages that mark a shared credential, which has no other, and a test bench's device that came by one (docs/spec/shared-credentials.md).
var (
	oidShared = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 52344, 6121, 26807, 19576, 32932, 5102531, 13969508, 1}
	oidBench  = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 52344, 6121, 26807, 19576, 32932, 5102531, 13969508, 2}
)

// Mark says what of shared credentials a certificate is.
type Mark string

// The marks.
const (
	// NoMark is what a device of production has.
	NoMark Mark = ""
	// SharedCredential opens nothing but the way to a certificate of one's own.
	SharedCredential Mark = "shared-credential"
	// TestBench is a device that came by a shared credential: its key was made by hanaperd.
	TestBench Mark = "test-bench"
)

func markOf(c *x509.Certificate) Mark {
	has := func(oid asn1.ObjectIdentifier) bool { return slices.ContainsFunc(c.UnknownExtKeyUsage, oid.Equal) }
	switch {
	case has(oidShared):
		return SharedCredential
	case has(oidBench):
		return TestBench
	}
	return NoMark
}

// marked holds an admitted certificate with a mark to the officers' policy, whatever else it is.
func (j *judge) marked(d Decision, mark Mark, now time.Time) Decision {
	if mark == NoMark || !d.Admitted() {
		return d
	}
	shared := j.policy.SharedAt(now)
	switch {
	case shared == nil:
		return refuse(NotShared, "it is marked %s", mark)
	case !shared.IssuedBy(trust.IssuerID(d.along.certs[0])):
		return refuse(NotShared, "it is marked %s, and another CA than %q may issue such", mark, d.along.certs[0].Subject.String())
	}
	d.Mark, d.Until = mark, earlier(d.Until, shared.Until)
	return d
}

const (
	// sharedPath is the one path that a shared credential opens, handed on to sharedCall of hanaperd.
	sharedPath = "/devices"
	sharedCall = "/v1/shared/devices"
	// maxSharedBody bounds what a bench sends, in bytes, and maxShared how many requests are in work.
	maxSharedBody = 4 << 10
	maxShared     = 8
)

// benchRequest is what a bench asks for. Its ttl, in days, is a number or a string of digits.
type benchRequest struct {
	DeviceID string          `json:"deviceId"`
	TTL      json.RawMessage `json:"ttl,omitempty"`
}

// readBench reads a bench's request, and writes it anew.
func readBench(r io.Reader) (device string, body []byte, err error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSharedBody+1))
	if err != nil || len(data) > maxSharedBody {
		return "", nil, fmt.Errorf("the body cannot be read, or is longer than %d bytes", maxSharedBody)
	}
	var q benchRequest
	if err := strict.JSON("body", data, &q); err != nil {
		return "", nil, err
	}
	days := 0
	if text := strings.Trim(string(q.TTL), `"`); text != "" && text != "null" {
		if days, err = strconv.Atoi(text); err != nil || days < 1 {
			return "", nil, fmt.Errorf("ttl is no number of days")
		}
		q.TTL = json.RawMessage(strconv.Itoa(days))
	}
	if q.DeviceID == "" {
		return "", nil, fmt.Errorf("deviceId is missing")
	}
	body, err = json.Marshal(q)
	return q.DeviceID, body, err
}

// serveShared takes a request by a shared credential: of all that a gateway does, it opens this call.
func (g *Gateway) serveShared(w http.ResponseWriter, r *http.Request, s *session, credential string) {
	if r.Method != http.MethodPost || r.URL.EscapedPath() != sharedPath || r.URL.RawQuery != "" || r.URL.ForceQuery {
		g.turnAway(w, s, Decision{Reason: SharedOnly, Device: credential, Detail: r.Method})
		return
	}
	g.figures.shared.Add(1)
	if s.env.renewal == nil {
		answer(w, http.StatusNotFound, "request", "this gateway knows no hanaperd (renewal.url)")
		return
	}
	device, body, err := readBench(r.Body)
	if err != nil {
		w.Header().Set("Connection", "close")
		answer(w, http.StatusBadRequest, "request", `send {"deviceId": "...", "ttl": DAYS}`)
		return
	}
	if ok, _ := g.shared.enter(s.key); !ok {
		w.Header().Set("Retry-After", "5")
		answer(w, http.StatusServiceUnavailable, "busy", "many test benches ask at present")
		return
	}
	defer g.shared.leave(s.key)
	g.log.Warn("a SHARED CREDENTIAL asks for a device", "environment", s.env.name, "credential", credential, "device", device, "serial", serialText(s.chain[0]), "peer", s.conn.RemoteAddr().String())
	n := s.env.renewal
	resp, err := n.call(r.Context(), http.MethodPost, sharedCall, "application/json", body, s.chain[0])
	if err == nil {
		defer resp.Body.Close()
		err = n.pass(w, resp)
	}
	if err != nil {
		n.failed(w, r, credential, err)
	}
}

// sharedNote is what health says for as long as the view in force allows shared credentials; "" for nothing.
func (e *environment) sharedNote(now time.Time) string {
	j := e.judge.Load()
	if j == nil {
		return ""
	}
	if shared := j.judge.policy.SharedAt(now); shared != nil {
		return fmt.Sprintf("the environment %s allows SHARED CREDENTIALS until %s: not for production", e.name, shared.Until.Format(time.RFC3339))
	}
	return ""
}

// sharedUsageOnly says what is wrong with the usages of a shared credential: it is for nothing else.
func sharedUsageOnly(c *x509.Certificate) (detail string) {
	if len(c.ExtKeyUsage) > 0 || len(c.UnknownExtKeyUsage) != 1 {
		return "a shared credential that is for something else too"
	}
	return ""
}
