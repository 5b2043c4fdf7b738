package feed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

// source is a place that files can be read from.
type source interface {
	// open begins a look.
	open(ctx context.Context) fs.FS
	// wait returns nil when there may be something newer than what the last look saw; otherwise errSame, errUnwatched or what went wrong.
	wait(ctx context.Context) error
	// forget has the next look read everything anew: what the last one read was refused.
	forget()
}

func newSource(s string, client *http.Client) (source, error) {
	if !strings.Contains(s, "://") {
		if s == "" {
			return nil, advice.New(advice.Usage, "name a folder or an https URL", "trust feed: no source")
		}
		return &folder{dir: s}, nil
	}
	u, err := address.ParseURL(s)
	if errors.Is(err, address.ErrClear) {
		return nil, advice.New(advice.Usage, "use https; http is for loopback addresses only", "trust feed: %w", err)
	}
	if err != nil {
		return nil, advice.New(advice.Usage, "for example https://trust.example.com/prod", "trust feed: %w", err)
	}
	if client == nil {
		if client, err = NewClient(nil); err != nil {
			return nil, err
		}
	}
	return &site{base: u, client: client, waiting: patient(client)}, nil
}

// patient is a client like c, with a connection of its own, that lets a server hold its answer back.
func patient(c *http.Client) *http.Client {
	again := *c
	if t, ok := c.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.ResponseHeaderTimeout = waitFor + patience
		t.MaxIdleConnsPerHost = 1
		again.Transport = t
	}
	again.Timeout = 0
	return &again
}

// folder is a repository's copy on this machine, or on one whose files are mounted here.
type folder struct {
	dir string
	// last is the entry of the timestamp when a look last began.
	mu   sync.Mutex
	last mark
}

func (f *folder) open(context.Context) fs.FS {
	is := f.look()
	f.mu.Lock()
	f.last = is
	f.mu.Unlock()
	return folderFS{input.Dir(f.dir)}
}

func (f *folder) forget() {}

// folderFS refuses what is no plain file before it is opened: opening a pipe would wait for ever, past any deadline.
type folderFS struct{ fs.FS }

// Open implements fs.FS.
func (f folderFS) Open(name string) (fs.File, error) {
	info, err := fs.Stat(f.FS, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is no plain file")}
	}
	return f.FS.Open(name)
}

// ReadDir implements fs.ReadDirFS.
func (f folderFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(f.FS, name) }

type site struct {
	base            *url.URL
	client, waiting *http.Client
	last            tagged
}

func (s *site) open(ctx context.Context) fs.FS { return &siteFS{site: s, ctx: ctx} }

func (s *site) forget() { s.last.put("", nil) }

func (s *site) request(ctx context.Context, name string) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, s.base.JoinPath(name).String(), nil)
}

type siteFS struct {
	*site
	ctx context.Context
}

// Open implements fs.FS with one GET. The timestamp, the one file that changes under its name, is asked for only if it is not the last one.
func (s *siteFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name != trust.TimestampPath {
		f, _, err := s.get(name, "")
		return f, err
	}
	tag, last := s.last.get()
	f, newTag, err := s.get(name, tag)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return trust.Files{name: last}.Open(name)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, trust.MaxTimestampSize+1))
	if err != nil {
		return nil, err
	}
	s.last.put(newTag, data)
	return trust.Files{name: data}.Open(name)
}

// get fetches a file, and the tag that the server gave it; nil without an error if it is still the one with the tag given.
func (s *siteFS) get(name, tag string) (fs.File, string, error) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	late := time.AfterFunc(patience, func() { cancel(errSlow) })
	end := func() { late.Stop(); cancel(nil) }
	req, err := s.request(ctx, name)
	if err != nil {
		end()
		return nil, "", err
	}
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	res, err := s.client.Do(req)
	if err != nil {
		if context.Cause(ctx) == errSlow {
			err = &fs.PathError{Op: "get", Path: name, Err: errSlow}
		}
		end()
		return nil, "", err
	}
	switch res.StatusCode {
	case http.StatusOK:
		return &body{ReadCloser: res.Body, name: path.Base(name), size: max(res.ContentLength, 0), ctx: ctx, late: late, end: end, began: time.Now()}, res.Header.Get("ETag"), nil
	case http.StatusNotModified:
		if tag == "" {
			err = fmt.Errorf("the server answers %s for %s, which nobody asked", show.Text(res.Status), name)
		}
	case http.StatusNotFound, http.StatusGone:
		err = &fs.PathError{Op: "get", Path: name, Err: fs.ErrNotExist}
	default:
		err = fmt.Errorf("the server answers %s for %s", show.Text(res.Status), name)
	}
	res.Body.Close()
	end()
	return nil, "", err
}

var errSlow = errors.New("it comes too slowly, or not at all")

// ReadDir implements fs.ReadDirFS: a site has no listings.
func (s *siteFS) ReadDir(name string) ([]fs.DirEntry, error) {
	return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.ErrUnsupported}
}

// body is a file that is coming. It has patience, and then as long as what has come takes at the slowest rate: who sends a byte now and
// then would hold up a whole look otherwise.
type body struct {
	io.ReadCloser
	name  string
	size  int64
	ctx   context.Context
	late  *time.Timer
	end   func()
	began time.Time
	got   int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.got += int64(n)
	if err == nil && b.late.Stop() {
		b.late.Reset(max(time.Until(b.began.Add(patience+time.Duration(b.got)*time.Second/slowest)), 1))
	}
	if err != nil && context.Cause(b.ctx) == errSlow {
		err = errSlow
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

func (b *body) Stat() (fs.FileInfo, error) { return b, nil }
func (b *body) Name() string               { return b.name }
func (b *body) Size() int64                { return b.size }
func (b *body) Mode() fs.FileMode          { return 0o444 }
func (b *body) ModTime() time.Time         { return time.Time{} }
func (b *body) IsDir() bool                { return false }
func (b *body) Sys() any                   { return nil }

// NewClient is an HTTP client for Config: it trusts the CAs in caPEM (nil: the system's), follows no redirect to another
// host, and gives up after bounded times.
func NewClient(caPEM []byte) (*http.Client, error) {
	var pool *x509.CertPool
	if caPEM != nil {
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(caPEM) {
			return nil, advice.New(advice.Usage, "give a PEM file with the CA that signed the server's certificate", "trust feed: the CA file holds no certificate")
		}
	}
	return &http.Client{
		Timeout: lookTimeout,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  15 * time.Second,
			IdleConnTimeout:        90 * time.Second,
			MaxIdleConnsPerHost:    2,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 3 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
				return errors.New("the server redirects elsewhere, which is not followed")
			}
			return nil
		},
	}, nil
}
