package reposerver

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

const (
	// ChecksumHeader carries the SHA-256 of the canonical signed targets file in hex.
	ChecksumHeader = "X-Ats-Role-Checksum"

	imagePath    = "/api/v1/user_repo/"
	directorPath = "/api/v1/director/admin/repo/"

	// gzipFrom is the size in bytes from which a body is compressed, as garage-sign does.
	gzipFrom = 500_000
	// maxAnswer bounds what is read of an answer in bytes; no role is larger.
	maxAnswer = 16 << 20
)

// ClientConfig says where a repository's server is.
type ClientConfig struct {
	// URL is the server's, without the API's path: the content of tufrepo.url, or of api_gateway.url for a Director.
	URL      string
	Director bool
	// Auth defaults to NoAuth.
	Auth Auth
	// Roots verify the server's certificate; nil: the system's.
	Roots *x509.CertPool
	// Progress is told the bytes of an upload that the server has, and all of them; nil: nobody.
	Progress func(done, total int64)
	// Timeout bounds each request but uploads of file content; default one minute.
	Timeout time.Duration
	// RetryDelay is the first pause before a request that failed on the way is sent again; default one second.
	RetryDelay time.Duration
	// Now defaults to time.Now.
	Now func() time.Time
}

// Client talks to a repository server. It is safe for concurrent use.
type Client struct {
	base     *url.URL
	director bool
	auth     Auth
	tokens   *tokens
	api      *http.Client // with the client certificate, if any
	storage  *http.Client // for other hosts: no certificate, no credentials
	progress func(done, total int64)
	delay    time.Duration
	timeout  time.Duration
}

// NewClient checks the configuration; nothing is sent.
func NewClient(c ClientConfig) (*Client, error) {
	base, err := url.Parse(strings.TrimSpace(c.URL))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, advice.New(advice.Usage, "give it as https://host/, without the API's path", "%q is not the URL of a repository server", c.URL)
	}
	if c.Auth == nil {
		c.Auth = NoAuth{}
	}
	if _, open := c.Auth.(NoAuth); !open && base.Scheme == "http" && !address.Loopback(base.Hostname()) {
		return nil, advice.New(advice.Refused, "use https", "credentials would be sent in clear to %s", show.Text(base.Host))
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.RetryDelay == 0 {
		c.RetryDelay = time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Progress == nil {
		c.Progress = func(int64, int64) {}
	}
	out := &Client{director: c.Director, auth: c.Auth, progress: c.Progress, delay: c.RetryDelay, timeout: c.Timeout}
	path := imagePath
	if c.Director {
		path = directorPath
	}
	out.base = &url.URL{Scheme: base.Scheme, Host: base.Host, Path: strings.TrimRight(base.Path, "/") + path}
	out.storage = newHTTP(&tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12})
	out.api = out.storage
	switch a := c.Auth.(type) {
	case NoAuth, Basic:
	case MTLS:
		roots := c.Roots
		if a.Roots != nil {
			roots = a.Roots
		}
		if len(a.Certificate.Certificate) == 0 {
			return nil, advice.New(advice.Usage, "", "the client certificate is empty")
		}
		if base.Scheme != "https" {
			return nil, advice.New(advice.Usage, "use https", "a client certificate needs https, and %s has none", show.Text(base.String()))
		}
		out.api = newHTTP(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{a.Certificate}, MinVersion: tls.VersionTLS12})
	case OAuth2:
		endpoint, _ := a.tokenURL()
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && address.Loopback(u.Hostname())) {
			return nil, advice.New(advice.Usage, "it must be https", "%q is not the URL of an OAuth2 server", a.Server)
		}
		out.tokens = &tokens{auth: a, http: newHTTP(&tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}), now: c.Now}
		out.tokens.http.Timeout = c.Timeout
	default:
		return nil, advice.New(advice.Usage, "", "unknown authentication %T", a)
	}
	return out, nil
}

// Root fetches the newest root.json.
func (c *Client) Root(ctx context.Context) ([]byte, error) { return c.get(ctx, "root.json") }

// RootVersion fetches N.root.json; one that does not exist is ErrNotFound.
func (c *Client) RootVersion(ctx context.Context, n int) ([]byte, error) {
	return c.get(ctx, fmt.Sprintf("%d.root.json", n))
}

// PushRoot hands over a root that is signed to the thresholds of the one before it and its own.
func (c *Client) PushRoot(ctx context.Context, signed []byte) error {
	_, err := c.call(ctx, request{method: http.MethodPost, path: "root", body: signed})
	return err
}

// CosignRoot hands over a root that lacks nothing but the signatures of root keys that the server holds in a token. The
// server adds them, checks the root as if it had been pushed, and stores it, in one step; it returns what it stored. It
// is this project's own: other servers answer ErrNotFound, and give the key out instead (FetchPrivateKey).
func (c *Client) CosignRoot(ctx context.Context, signed []byte) ([]byte, error) {
	a, err := c.call(ctx, request{method: http.MethodPost, path: "root/cosign", body: signed})
	if err != nil {
		return nil, err
	}
	return a.body, nil
}

func (c *Client) privateKeyPath(keyid string) string {
	if c.director {
		return "private_keys/" + url.PathEscape(keyid)
	}
	return "root/private_keys/" + url.PathEscape(keyid)
}

// FetchPrivateKey asks for a key that the server holds. It stays in memory. ErrKeySealed: the server keeps it in a
// token, and CosignRoot is the way; ErrNotFound: it was deleted, or never was there.
func (c *Client) FetchPrivateKey(ctx context.Context, keyid string) (crypto.Signer, error) {
	body, err := c.get(ctx, c.privateKeyPath(keyid))
	if err != nil {
		return nil, err
	}
	defer clear(body)
	key, err := parseKeyPair(body)
	if err != nil {
		return nil, advice.Wrap(advice.Unverified, err, "")
	}
	pub, err := uptane.NewKey(key.Public())
	if err != nil {
		return nil, err
	}
	if pub.ID() != keyid {
		return nil, advice.New(advice.Unverified, "", "the server gave key %s for key %s", pub.ID(), keyid)
	}
	return key, nil
}

// DeletePrivateKey destroys a key on the server for good.
func (c *Client) DeletePrivateKey(ctx context.Context, keyid string) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: c.privateKeyPath(keyid)})
	return err
}

// Targets fetches targets.json and the checksum that a push must send back; it is empty where a server sends none.
func (c *Client) Targets(ctx context.Context) (signed []byte, checksum string, err error) {
	a, err := c.call(ctx, request{method: http.MethodGet, path: "targets.json", again: true})
	if err != nil {
		return nil, "", err
	}
	checksum = a.header.Get(ChecksumHeader)
	if b, err := hex.DecodeString(checksum); checksum != "" && (err != nil || len(b) != 32) {
		return nil, "", advice.New(advice.Failed, "", "the server's %s is not a SHA-256 in hex", ChecksumHeader)
	}
	return a.body, checksum, nil
}

// PushTargets replaces targets.json. checksum is the one that came with the targets that these were built on;
// ErrChecksum: they have been replaced since.
func (c *Client) PushTargets(ctx context.Context, signed []byte, checksum string) error {
	header := http.Header{}
	if checksum != "" {
		header.Set(ChecksumHeader, checksum)
	}
	_, err := c.call(ctx, request{method: http.MethodPut, path: "targets", body: signed, header: header})
	if errors.Is(err, ErrChecksum) {
		return advice.Wrap(advice.Failed, err, "somebody else has pushed targets: pull, add your changes again, sign and push")
	}
	return err
}

// Delegation fetches a delegation's metadata.
func (c *Client) Delegation(ctx context.Context, name string) ([]byte, error) {
	return c.get(ctx, "delegations/"+url.PathEscape(name)+".json")
}

// PushDelegation replaces a delegation's metadata.
func (c *Client) PushDelegation(ctx context.Context, name string, signed []byte) error {
	_, err := c.call(ctx, request{method: http.MethodPut, path: "delegations/" + url.PathEscape(name) + ".json", body: signed})
	return err
}

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	a, err := c.call(ctx, request{method: http.MethodGet, path: path, again: true})
	if err != nil {
		return nil, err
	}
	return a.body, nil
}
