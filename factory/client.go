package factory

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// ClientConfig is what a station or operator needs to speak to hanaperd.
type ClientConfig struct {
	// URL is https://host:port.
	URL string
	// CA is the root of hanaperd's own certificate; no other is trusted, the system's neither.
	CA []*x509.Certificate
	// Identity is the caller's certificate and key.
	Identity tls.Certificate
	// Tries is how often a call is made in all when the network or hanaperd is away; Timeout bounds each.
	Tries   int
	Timeout time.Duration
	// Wait is the pause before the second try, doubled before each further one up to MaxWait; zero means a second, and half a minute.
	// Each pause is shortened by chance, to half of it at most, so that a line's stations do not come back all at once.
	Wait, MaxWait time.Duration
	// Proxy is the URL of the way to hanaperd, without credentials, ProxyFromEnvironment, or empty for none. ProxyCredentials is a file.
	Proxy, ProxyCredentials string
	// Note is told of each try that failed and will be repeated; nil for silence.
	Note func(err error, wait time.Duration)
}

// ErrUnreached marks errors of a hanaperd that could not be reached, or did not let the caller in.
var ErrUnreached = errors.New("hanaperd cannot be reached")

// unreachedError is an error that is ErrUnreached besides what it says.
type unreachedError struct{ error }

func (e unreachedError) Is(target error) bool { return target == ErrUnreached }
func (e unreachedError) Unwrap() error        { return e.error }

// Client speaks to hanaperd.
type Client struct {
	c    ClientConfig
	base *url.URL
	http *http.Client
}

// NewClient checks the configuration; it does not connect.
func NewClient(c ClientConfig) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, advice.New(advice.Usage, "write it as https://host:port", "%.100q is not hanaperd's URL", c.URL)
	}
	u.Path = ""
	if len(c.CA) == 0 {
		return nil, errors.New("factory client: no CA to trust")
	}
	pool := x509.NewCertPool()
	for _, r := range c.CA {
		pool.AddCert(r)
	}
	c.Tries, c.Timeout, c.Wait = max(c.Tries, 1), max(c.Timeout, 0), max(c.Wait, 0)
	if c.Timeout == 0 {
		c.Timeout = requestTime
	}
	if c.Wait == 0 {
		c.Wait = time.Second
	}
	if c.MaxWait <= 0 {
		c.MaxWait = longestWait
	}
	proxy, err := proxyFunc(c.Proxy, c.ProxyCredentials)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{c.Identity}, MinVersion: tls.VersionTLS13},
		// One from the environment is taken only where the configuration says so.
		Proxy: proxy, OnProxyConnectResponse: onProxyAnswer,
		DialContext:           (&net.Dialer{Timeout: min(c.Timeout, dialTime)}).DialContext,
		ResponseHeaderTimeout: c.Timeout, MaxIdleConnsPerHost: 64, IdleConnTimeout: idleTime / 2,
	}
	return &Client{c: c, base: u, http: &http.Client{Transport: t, Timeout: c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("hanaperd does not redirect") }}}, nil
}

// Enroll sends one request; sending it again is safe. isNew is false where the certificate was on record.
func (c *Client) Enroll(ctx context.Context, q EnrollRequest) (a *EnrollAnswer, isNew bool, err error) {
	return c.EnrollHolding(ctx, q, 0)
}

// EnrollHolding is Enroll for a caller who keeps a checkpoint of held entries of the issuance log, and wants the proof from there.
func (c *Client) EnrollHolding(ctx context.Context, q EnrollRequest, held int64) (a *EnrollAnswer, isNew bool, err error) {
	a = &EnrollAnswer{}
	status, err := c.callHolding(ctx, held, http.MethodPost, "/v1/enroll", q, a)
	return a, status == http.StatusCreated, err
}

// Revoke revokes by device id or serial; operators only.
func (c *Client) Revoke(ctx context.Context, q RevokeRequest) (*RevokeAnswer, error) {
	a := &RevokeAnswer{}
	_, err := c.call(ctx, http.MethodPost, "/v1/revoke", q, a)
	return a, err
}

// IssueShared asks for a shared credential; operators only.
func (c *Client) IssueShared(ctx context.Context, q SharedRequest) (*SharedAnswer, error) {
	return posted[SharedAnswer](ctx, c, "/v1/shared/credentials", q)
}

// Challenge asks for what a device's evidence must be made for.
func (c *Client) Challenge(ctx context.Context, q ChallengeRequest) (*ChallengeAnswer, error) {
	a := &ChallengeAnswer{}
	_, err := c.call(ctx, http.MethodPost, "/v1/attestation/challenge", q, a)
	return a, err
}

// Evidence fetches what was kept of where a device's key was born.
func (c *Client) Evidence(ctx context.Context, id string) ([]byte, error) {
	var kept []byte
	_, err := c.call(ctx, http.MethodGet, "/v1/devices/"+url.PathEscape(id)+"/evidence", nil, &kept)
	return kept, err
}

// Device asks what is on record for a device id.
func (c *Client) Device(ctx context.Context, id string) (*DeviceAnswer, error) {
	a := &DeviceAnswer{}
	_, err := c.call(ctx, http.MethodGet, "/v1/devices/"+url.PathEscape(id), nil, a)
	return a, err
}

// TakeIn shows hanaperd certificates that were got from it, in PEM; those that its record lacks are taken in.
func (c *Client) TakeIn(ctx context.Context, certificates string) (*TakeInAnswer, error) {
	a := &TakeInAnswer{}
	_, err := c.call(ctx, http.MethodPost, "/v1/known", TakeInRequest{certificates}, a)
	return a, err
}

// reportAtOnce is how many certificates one call of Report shows.
const reportAtOnce = 500

// Report shows hanaperd certificates that were got from it, some at a time; it tells how many, and how many its record lacked.
func (c *Client) Report(ctx context.Context, certs []*x509.Certificate) (sent, lacked int, err error) {
	for some := range slices.Chunk(certs, reportAtOnce) {
		var b []byte
		for _, cert := range some {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
		}
		a, err := c.TakeIn(ctx, string(b))
		if err != nil {
			return sent, lacked, err
		}
		sent, lacked = sent+a.Certificates, lacked+a.TakenIn
	}
	return sent, lacked, nil
}

// Store asks how the record stands.
func (c *Client) Store(ctx context.Context) (*StoreAnswer, error) {
	a := &StoreAnswer{}
	_, err := c.call(ctx, http.MethodGet, "/v1/store", nil, a)
	return a, err
}

// Accept has a record served again that was found to lag; operators only.
func (c *Client) Accept(ctx context.Context, note string) (*StoreAnswer, error) {
	a := &StoreAnswer{}
	_, err := c.call(ctx, http.MethodPost, "/v1/store/accept", AcceptRequest{note}, a)
	return a, err
}

// CRL fetches the latest list of the first issuing CA, DER.
func (c *Client) CRL(ctx context.Context) ([]byte, error) { return c.CRLOf(ctx, "") }

// CRLOf fetches the latest list of the issuing CA with this id, DER; of the first for "". Whose list it is, the caller checks.
func (c *Client) CRLOf(ctx context.Context, id string) ([]byte, error) {
	path := "/v1/crl"
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	var der []byte
	_, err := c.call(ctx, http.MethodGet, path, nil, &der)
	return der, err
}

// Issuers lists the issuing CAs.
func (c *Client) Issuers(ctx context.Context) (*IssuersAnswer, error) {
	a := &IssuersAnswer{}
	_, err := c.call(ctx, http.MethodGet, "/v1/issuers", nil, a)
	return a, err
}

// CACertificates fetches the issuing certificate and what stands between it and the Fleet Root, in PEM.
func (c *Client) CACertificates(ctx context.Context) ([]byte, error) {
	var certs []byte
	_, err := c.call(ctx, http.MethodGet, "/v1/cacerts", nil, &certs)
	return certs, err
}

// AcceptClock has hanaperd take its clock as right.
func (c *Client) AcceptClock(ctx context.Context, note string) (*StoreAnswer, error) {
	a := &StoreAnswer{}
	_, err := c.call(ctx, http.MethodPost, "/v1/store/clock", AcceptRequest{Note: note}, a)
	return a, err
}

// Health asks whether hanaperd is well.
func (c *Client) Health(ctx context.Context) (*Health, error) {
	h := &Health{}
	_, err := c.call(ctx, http.MethodGet, "/healthz", nil, h)
	return h, err
}

// call makes one call, again while trying may help.
func (c *Client) call(ctx context.Context, method, path string, in, out any) (status int, err error) {
	return c.callHolding(ctx, 0, method, path, in, out)
}

// callHolding is call with the size of the checkpoint that the caller keeps; 0 for none.
func (c *Client) callHolding(ctx context.Context, held int64, method, path string, in, out any) (status int, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return 0, err
		}
	}
	for try := 1; ; try++ {
		var again time.Duration
		status, again, err = c.once(ctx, held, method, path, body, out)
		if err == nil || again < 0 || try >= c.c.Tries || ctx.Err() != nil {
			return status, err
		}
		if again > longestRetryAfter {
			return status, advice.Wrap(advice.KindOf(err), fmt.Errorf("%w; it asks for patience until %s", err, time.Now().Add(again).UTC().Format(time.RFC3339)), "run it again then")
		}
		pause := pauseBefore(try, c.c.Wait, c.c.MaxWait, again)
		if c.c.Note != nil {
			c.c.Note(err, pause)
		}
		select {
		case <-ctx.Done():
			return status, err
		case <-time.After(pause):
		}
	}
}

// once makes one call; again is how long to wait at least before another, negative where none may help.
func (c *Client) once(ctx context.Context, held int64, method, path string, body []byte, out any) (status int, again time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, bytes.NewReader(body))
	if err != nil {
		return 0, -1, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if held > 0 {
		r.Header.Set(LogSizeHeader, strconv.FormatInt(held, 10))
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, retryable(err), unreachedError{c.unreached(err)}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(b) > maxAnswer {
		return resp.StatusCode, 0, advice.New(advice.Failed, "try again", "the answer of %s broke off: %v", show.Text(c.base.String()), err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated {
		if raw, ok := out.(*[]byte); ok {
			*raw = b
			return resp.StatusCode, 0, nil
		}
		if err := json.Unmarshal(b, out); err != nil {
			return resp.StatusCode, -1, fmt.Errorf("the answer of %s is not the JSON it should be: %w", show.Text(c.base.String()), err)
		}
		return resp.StatusCode, 0, nil
	}
	again, err = refusedBy(resp, b)
	return resp.StatusCode, again, err
}

// refusedBy reads an answer that is no success; again is how long to wait at least before another call, negative where none may help.
func refusedBy(resp *http.Response, body []byte) (again time.Duration, err error) {
	f := decodeFault(resp.StatusCode, body)
	again = -1
	after, asked := retryAfterOf(resp.Header.Get("Retry-After"), time.Now())
	if f.Code == CodeUnavailable || asked && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
		again = after
	}
	return again, f.advise()
}

func decodeFault(status int, b []byte) *Fault {
	var no refusal
	if err := json.Unmarshal(b, &no); err != nil || no.Error == "" {
		no = refusal{Error: fmt.Sprintf("hanaperd answered %d", status), Code: CodeInternal}
		if status == http.StatusServiceUnavailable {
			no.Code = CodeUnavailable
		}
	}
	return &Fault{Code: no.Code, Text: "hanaperd: " + no.Error, Hint: no.Hint}
}

// pauseBefore is how long to wait after the try with this number: doubled each time and bounded, shortened by chance to half of it at
// most, and never less than what the other side asked for, to which chance adds up to a tenth.
func pauseBefore(try int, first, longest, asked time.Duration) time.Duration {
	pause := longest
	if shift := try - 1; shift < 20 {
		pause = min(first<<shift, longest)
	}
	pause -= time.Duration(rand.Int64N(int64(pause)/2 + 1))
	if asked > 0 {
		pause = max(pause, asked+time.Duration(rand.Int64N(int64(asked)/10+1)))
	}
	return pause
}

// retryAfterOf reads a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date. It says whether there is one that can be read.
func retryAfterOf(header string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// retryable is 0 for trouble of the network, -1 for a certificate that either side will refuse again.
func retryable(err error) time.Duration {
	var alert tls.AlertError
	var verify *tls.CertificateVerificationError
	var refused *errProxy
	if errors.As(err, &refused) && refused.status < 500 || advice.KindOf(err) == advice.Usage {
		return -1
	}
	if errors.As(err, &alert) || errors.As(err, &verify) || strings.Contains(err.Error(), "remote error: tls") {
		return -1
	}
	return 0
}

func (c *Client) unreached(err error) error {
	var verify *tls.CertificateVerificationError
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if said := proxyAdvice(err, c.base.String()); said != nil {
		return said
	}
	switch {
	case advice.KindOf(err) == advice.Usage:
		return err
	case errors.As(err, &verify):
		if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return advice.New(advice.Unverified, "is this machine's clock right? If it is, hanaperd needs a new certificate", "%s is not trusted: %w", show.Text(c.base.String()), err)
		}
		return advice.New(advice.Unverified, "is factory.ca the root of hanaperd's own certificate, and the host in the URL a name of it?", "%s is not trusted: %w", show.Text(c.base.String()), err)
	case retryable(err) < 0:
		return advice.New(advice.Refused, "hanaperd takes only unexpired station and operator certificates under its Operations Root; its log says why", "%s refused our certificate: %w", show.Text(c.base.String()), err)
	case errors.Is(err, context.Canceled):
		return err
	}
	return advice.New(advice.Failed, "is hanaperd running, and is the URL right?", "%s cannot be reached: %w", show.Text(c.base.String()), err)
}
