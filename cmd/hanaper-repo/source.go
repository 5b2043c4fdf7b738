package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
)

// source is a place where CRLs come from: a file, a folder of files, or a URL.
type source struct {
	name   string
	read   func(ctx context.Context) (map[string][]byte, error)
	handed map[string][32]byte
}

func newSources(c *config) ([]*source, error) {
	var list []*source
	for _, s := range c.CRLs {
		switch {
		case s.File != "":
			at := c.path(s.File)
			list = append(list, &source{name: at, read: func(context.Context) (map[string][]byte, error) { return readFiles(at) }})
		case s.Folder != "":
			at := c.path(s.Folder)
			list = append(list, &source{name: at, read: func(context.Context) (map[string][]byte, error) { return readFolder(at) }})
		default:
			client, err := newClient(c, s)
			if err != nil {
				return nil, err
			}
			list = append(list, &source{name: s.URL, read: (&remote{client: client, url: s.URL}).fetch})
		}
	}
	for _, s := range list {
		s.handed = map[string][32]byte{}
	}
	return list, nil
}

// take hands each CRL that has changed since it was last handed over to add. One that add refuses is tried again.
func (s *source) take(ctx context.Context, add func([]byte) error) error {
	files, err := s.read(ctx)
	var faults []error
	if err != nil {
		faults = append(faults, err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		digest := sha256.Sum256(data)
		if s.handed[name] == digest {
			continue
		}
		if err := add(data); err != nil {
			faults = append(faults, &itemError{name, fmt.Errorf("%s: %w", show.Text(name), err)})
			continue
		}
		s.handed[name] = digest
	}
	return errors.Join(faults...)
}

// readFiles reads a file that may not be there yet.
func readFiles(path string) (map[string][]byte, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	data, err := readCRL(path)
	return map[string][]byte{path: data}, err
}

// readFolder reads the files *.crl, *.der and *.pem of a folder. One that cannot be read keeps none of the others back.
func readFolder(dir string) (map[string][]byte, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	var faults []error
	for _, e := range list {
		ext := filepath.Ext(e.Name())
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") || ext != ".crl" && ext != ".der" && ext != ".pem" {
			continue
		}
		at := filepath.Join(dir, e.Name())
		data, err := readCRL(at)
		if err != nil {
			faults = append(faults, &itemError{at, err})
			continue
		}
		files[at] = data
	}
	return files, errors.Join(faults...)
}

func newClient(c *config, s crlConfig) (*http.Client, error) {
	if !strings.HasPrefix(s.URL, "https://") {
		return nil, advice.New(advice.Usage, "", "crls: %s is not an https URL", show.Text(s.URL))
	}
	var ca []byte
	if s.CA != "" {
		var err error
		if ca, err = input.ReadFile(c.path(s.CA)); err != nil {
			return nil, advice.Wrap(advice.Usage, err, "crls: ca names the root of the server's certificate, PEM")
		}
	}
	client, err := feed.NewClient(ca)
	if err != nil {
		return nil, err
	}
	client.Timeout = time.Minute
	if s.Certificate != "" {
		identity, err := tls.LoadX509KeyPair(c.path(s.Certificate), c.path(s.Key))
		if err != nil {
			return nil, advice.New(advice.Usage, "are both there, may this user read them, and is the key the certificate's own?", "crls: certificate and key: %w", err)
		}
		client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{identity}
	}
	return client, nil
}

// remote is a CRL behind a URL, and the last answer with its entity tag: a list that is still the same is not sent again.
type remote struct {
	client *http.Client
	url    string
	tag    string
	last   []byte
}

func (r *remote) fetch(ctx context.Context) (map[string][]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, err
	}
	if r.tag != "" {
		req.Header.Set("If-None-Match", r.tag)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotModified && r.tag != "":
		return map[string][]byte{r.url: r.last}, nil
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the server answers %s", show.Text(res.Status))
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, trust.MaxCRLSize+1))
	if err != nil {
		return nil, err
	}
	if r.tag, r.last = res.Header.Get("ETag"), data; len(r.tag) > 256 {
		r.tag = ""
	}
	return map[string][]byte{r.url: data}, nil
}
