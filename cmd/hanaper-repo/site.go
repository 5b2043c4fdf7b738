package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/hanaper/hanaper/trust"
)

// site serves the published folder, read-only, while what it holds is good.
type site struct {
	root      *os.Root
	publisher *trust.Publisher
	waiters   *waiters
	health    func() string
}

func newSite(dir string, p *trust.Publisher, health func() string) (*site, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &site{root, p, newWaiters(), health}, nil
}

// Close gives the folder free.
func (s *site) Close() error { return s.root.Close() }

// Routes adds the site's routes.
func (s *site) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /"+trust.TimestampPath, s.timestamp)
	mux.HandleFunc("GET /metadata/{file}", s.file)
	mux.HandleFunc("GET /targets/{file...}", s.file)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.publisher.View().Valid(now()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, s.health())
	})
}

// file serves what is named by its version or hash, and never changes.
func (s *site) file(w http.ResponseWriter, r *http.Request) {
	v := s.publisher.View()
	if err := v.Valid(now()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if !fs.ValidPath(name) || strings.Contains(name, "/.") {
		http.NotFound(w, r)
		return
	}
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, "not readable", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	kind := "application/octet-stream"
	if strings.HasSuffix(name, ".json") {
		kind = "application/json"
	}
	setHeader(w, kind, "max-age=31536000, immutable")
	if digest, ok := v.Digest(name); ok {
		w.Header().Set("ETag", tagOf(digest))
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
}

func setHeader(w http.ResponseWriter, kind, cache string) {
	w.Header().Set("Cache-Control", cache)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", kind)
}

// tagOf is the entity tag of a file with this SHA-256 (RFC 9110, section 8.8.3).
func tagOf(digest [32]byte) string { return `"` + hex.EncodeToString(digest[:]) + `"` }
