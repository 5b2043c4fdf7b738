package reposerver

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// newHTTP makes a client that follows no redirect: credentials must not wander.
func newHTTP(t *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true,
			DialContext:         (&net.Dialer{Timeout: 20 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: 5 * time.Minute, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type request struct {
	method, path string   // path is escaped, relative to the API's
	at           *url.URL // another server that takes the same credentials, in place of path
	query        url.Values
	header       http.Header
	body         []byte
	redirect     bool // a 302 is a success
	again        bool // safe to send again after a fault on the way
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// tries is how often a request that is safe to repeat is sent.
const tries = 4

func (c *Client) call(ctx context.Context, r request) (*answer, error) {
	var out *answer
	return out, c.retry(ctx, r.again, func() (err error) {
		out, err = c.once(ctx, r)
		return err
	})
}

// retry repeats f while what fails is the way to the server, not the request.
func (c *Client) retry(ctx context.Context, again bool, f func() error) error {
	for i := 1; ; i++ {
		err := f()
		if err == nil || !again || i == tries || ctx.Err() != nil || !transient(err) {
			return err
		}
		pause := c.delay << (i - 1)
		pause += rand.N(pause/2 + 1) // so that many builds do not come back at once
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func transient(err error) bool {
	var res *ResponseError
	if errors.As(err, &res) {
		return res.Status == http.StatusTooManyRequests || res.Status == http.StatusRequestTimeout ||
			res.Status >= 500 && res.Status != http.StatusNotImplemented
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) || errors.Is(err, errAnswer) {
		return false
	}
	var u *url.Error
	return errors.As(err, &u) || errors.Is(err, io.ErrUnexpectedEOF)
}

var errAnswer = errors.New("the server's answer makes no sense")

func (c *Client) once(ctx context.Context, r request) (*answer, error) {
	token := ""
	for again := true; ; again = false {
		if c.tokens != nil {
			var err error
			if token, err = c.tokens.get(ctx, token); err != nil {
				return nil, err
			}
		}
		a, err := c.send(ctx, r, token)
		var res *ResponseError
		if again && c.tokens != nil && errors.As(err, &res) && res.Status == http.StatusUnauthorized {
			continue // the token may have ended early: once more with a new one
		}
		return a, err
	}
}

func (c *Client) send(ctx context.Context, r request, token string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	switch a := c.auth.(type) {
	case OAuth2:
		req.Header.Set("Authorization", "Bearer "+token)
	case Basic:
		req.SetBasicAuth(a.User, a.Password)
	}
	res, err := c.api.Do(req)
	if err != nil {
		return nil, advice.Wrap(advice.Failed, err, "is the repository server within reach?")
	}
	defer res.Body.Close()
	return readAnswer(res, r.redirect)
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	at := r.at
	if at == nil {
		var err error
		if at, err = c.base.Parse(c.base.EscapedPath() + r.path); err != nil {
			return nil, advice.Wrap(advice.Usage, err, "")
		}
		at.RawQuery = r.query.Encode()
	}
	body, packed := r.body, false
	if len(body) >= gzipFrom {
		var err error
		if body, err = compress(body); err != nil {
			return nil, err
		}
		packed = true
	}
	req, err := http.NewRequestWithContext(ctx, r.method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if packed {
		req.Header.Set("Content-Encoding", "gzip")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "hanaper-sign")
	return req, nil
}

func compress(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// readAnswer reads a whole answer and turns what is no success into a *ResponseError.
func readAnswer(res *http.Response, redirect bool) (*answer, error) {
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, &url.Error{Op: res.Request.Method, URL: res.Request.URL.Redacted(), Err: err}
	}
	if len(data) > maxAnswer {
		return nil, advice.New(advice.Failed, "", "%w: %s is larger than %d bytes", errAnswer, show.Text(res.Request.URL.Path), maxAnswer)
	}
	if res.StatusCode/100 == 2 || redirect && isRedirect(res.StatusCode) {
		return &answer{res.StatusCode, res.Header, data}, nil
	}
	out := &ResponseError{Status: res.StatusCode, Method: res.Request.Method, Path: res.Request.URL.Path}
	var doc struct {
		Code        string          `json:"code"`
		Description string          `json:"description"`
		Cause       json.RawMessage `json:"cause"`
	}
	if json.Unmarshal(data, &doc) == nil {
		out.Code, out.Description = printable(doc.Code), printable(doc.Description)
		if len(doc.Cause) > 0 && string(doc.Cause) != "null" {
			out.Description = printable(out.Description + " " + string(doc.Cause))
		}
	}
	return nil, advice.Wrap(advice.Failed, out, hintFor(out))
}

func isRedirect(status int) bool {
	return status == http.StatusFound || status == http.StatusSeeOther || status == http.StatusTemporaryRedirect
}

func hintFor(e *ResponseError) string {
	switch {
	case isRedirect(e.Status) || e.Status == http.StatusMovedPermanently || e.Status == http.StatusPermanentRedirect:
		return "credentials follow no redirect: give the server's final URL"
	case errors.Is(e, ErrUnauthorized):
		return "the credentials may have been withdrawn: ask for a new credentials.zip"
	case errors.Is(e, ErrKeySealed):
		return "the server signs the new root itself: use the cosign route"
	}
	return ""
}
