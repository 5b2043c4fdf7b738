package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// estPrefix is where EST lies (RFC 7030, section 3.2.2).
const estPrefix = "/.well-known/est"

// renewalCalls are the calls of EST that devices may make, with the method of each (RFC 7030, section 3.2.2). Enrolment is not among
// them: a device that has no certificate of this fleet does not get here. Nothing else of hanaperd can be reached through a gateway.
var renewalCalls = map[string]string{
	estPrefix + "/simplereenroll": http.MethodPost,
	estPrefix + "/cacerts":        http.MethodGet,
	estPrefix + "/csrattrs":       http.MethodGet,
}

// renewal hands on devices' renewals to a hanaperd. It makes each request anew: nothing that a device sends gets there but the body of a
// certification request. Who the device is, hanaperd reads in the certificate whose key the device has proven, which goes beside it
// (RFC 9440), and which hanaperd holds against its own record.
//
// An attacker who takes a gateway over can say to hanaperd what he likes here; docs/spec/renewal.md says what that gets him.
type renewal struct {
	gateway *Gateway
	base    *url.URL
	client  *http.Client
	keys    *keyPair
	// places bounds the renewals in work, so that a fleet which wakes up at once does not take all of hanaperd; and those of each device, so that
	// one does not take the places of the others.
	places flights
	seen   seenCertificates
}

// newRenewal is nil where no hanaperd is configured.
func (e *environment) newRenewal() (*renewal, error) {
	c, g := e.EnvironmentSettings.renewal, e.gateway
	if c.URL == "" {
		return nil, nil
	}
	data, err := input.ReadFile(c.CA)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "renewal.ca names a PEM file: the root of hanaperd's TLS certificate")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, wrong("renewal.ca", "PEM, one or more certificates", "%s holds no certificate", show.Text(c.CA))
	}
	r := &renewal{gateway: g, base: e.renewalURL, places: flights{of: map[string]int{}, most: maxRenewals, ofOne: maxRenewalsOfOne}}
	if r.keys, err = loadKeyPair("renewal", TLSConfig{Certificate: c.Certificate, Key: c.Key}); err != nil {
		return nil, err
	}
	if err := r.keys.expired(g.now()); err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:                 nil, // never by way of an environment variable
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: c.Timeout,
		MaxIdleConnsPerHost:   maxRenewals,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return r.keys.get(nil) }},
	}
	r.client = &http.Client{Transport: transport, Timeout: c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return r, nil
}

// isRenewal says whether a path is EST's, in whatever spelling.
func isRenewal(path string) bool {
	rest, ok := strings.CutPrefix(path, estPrefix)
	return ok && (rest == "" || rest[0] == '/')
}

// serve takes a request of an admitted device whose path is EST's.
func (n *renewal) serve(w http.ResponseWriter, r *http.Request, s *session, device string) {
	method, known := renewalCalls[r.URL.EscapedPath()]
	switch {
	case !known || r.URL.RawQuery != "" || r.URL.ForceQuery:
		answer(w, http.StatusNotFound, "request", "no such call: a device may ask for simplereenroll, cacerts and csrattrs")
		return
	case r.Method != method:
		w.Header().Set("Allow", method) // RFC 9110, section 15.5.6
		answer(w, http.StatusMethodNotAllowed, "request", "use "+method)
		return
	}
	body, status, why := n.body(r, method)
	if status != 0 {
		w.Header().Set("Connection", "close")
		answer(w, status, "request", why)
		return
	}
	// Ids are compared without case, as in the registry.
	place := strings.ToLower(device)
	switch ok, all := n.places.enter(place); {
	case all:
		w.Header().Set("Retry-After", "30")
		answer(w, http.StatusServiceUnavailable, "busy", "many devices are renewing at present")
		return
	case !ok:
		n.gateway.busy(w, s, device, DeviceBusy, "the device has renewals under way")
		return
	}
	defer n.places.leave(place)
	resp, err := n.call(r.Context(), method, r.URL.Path, "application/pkcs10", body, s.chain[0])
	if err == nil {
		defer resp.Body.Close()
		err = n.pass(w, resp)
	}
	if err != nil {
		n.failed(w, r, device, err)
	}
}

// body reads a request's body; status is not 0 where it is refused.
func (n *renewal) body(r *http.Request, method string) (body []byte, status int, why string) {
	if method == http.MethodGet {
		if r.ContentLength != 0 {
			return nil, http.StatusBadRequest, "this call takes no body"
		}
		return nil, 0, ""
	}
	if kinds := r.Header.Values("Content-Type"); len(kinds) != 1 || !isPKCS10(kinds[0]) {
		return nil, http.StatusUnsupportedMediaType, "send application/pkcs10 (RFC 7030, section 4.2.1)"
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRenewalBody+1))
	switch {
	case err != nil:
		return nil, http.StatusBadRequest, "the body cannot be read"
	case len(body) > maxRenewalBody:
		return nil, http.StatusRequestEntityTooLarge, "the body is too large"
	}
	return body, 0, ""
}

func isPKCS10(kind string) bool {
	t, _, err := mime.ParseMediaType(kind)
	return err == nil && t == "application/pkcs10"
}

// call asks hanaperd, in the gateway's own name; leaf is the device's certificate, nil for a call that is about none.
func (n *renewal) call(ctx context.Context, method, path, kind string, body []byte, leaf *x509.Certificate) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, n.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header = http.Header{"User-Agent": {"hanaper-gateway"}}
	if method == http.MethodPost {
		q.Header.Set("Content-Type", kind)
		if leaf != nil && kind == "application/pkcs10" {
			q.Header.Set("Content-Transfer-Encoding", "base64") // RFC 7030, section 4.2.1; readers ignore it (RFC 8951)
		}
	}
	if leaf != nil {
		// A byte sequence of RFC 8941, as RFC 9440, section 2.1 says.
		q.Header.Set("Client-Cert", ":"+base64.StdEncoding.EncodeToString(leaf.Raw)+":")
	}
	return n.client.Do(q)
}

// errRefusedUs means that hanaperd does not take the gateway's own word: no fault of the device's.
var errRefusedUs = errors.New("hanaperd refuses the gateway")

// pass gives hanaperd's answer to the device, of whose header it takes what EST has.
func (n *renewal) pass(w http.ResponseWriter, resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRenewalAnswer+1))
	switch {
	case err != nil:
		return err
	case len(body) > maxRenewalAnswer:
		return fmt.Errorf("hanaperd's answer is longer than %d bytes", maxRenewalAnswer)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: %s", errRefusedUs, show.Text(clip(string(body))))
	case resp.StatusCode < 200 || resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("hanaperd answered %d", resp.StatusCode)
	}
	for _, name := range []string{"Content-Type", "Content-Transfer-Encoding", "Retry-After"} {
		if v := resp.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body)
	return nil
}

// failed answers where hanaperd gave no answer that can be passed on. A device tries again later: nothing is lost.
func (n *renewal) failed(w http.ResponseWriter, r *http.Request, device string, err error) {
	what, says := "renewal", "renewal is not possible at present"
	if r.URL.Path == sharedPath {
		what, says = "enrolment", "enrolment is not possible at present"
	}
	if r.Context().Err() != nil {
		n.gateway.log.Debug("the device went away", "device", device, "path", r.URL.Path, "why", err)
		answer(w, http.StatusRequestTimeout, "request", "the device went away")
		return
	}
	n.gateway.figures.renewalErrors.Add(1)
	n.gateway.log.Error("no "+what, "device", device, "path", r.URL.Path, "hanaperd", n.base.String(), "why", err)
	w.Header().Set("Retry-After", "60")
	answer(w, http.StatusServiceUnavailable, what, says)
}
