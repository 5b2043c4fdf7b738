package reposerver

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/uptane"
)

// ServerConfig says what a server serves, and to whom.
type ServerConfig struct {
	Image    *Image
	Director *Director // nil: none
	Storage  StorageConfig
	Access   AccessConfig
	Log      *slog.Logger
	// Now defaults to time.Now.
	Now func() time.Time
}

// Server has two faces: Admin, for release engineers and their tools, and Devices, for gateways.
type Server struct {
	image    *Image
	director *Director
	storage  *storage
	access   *access
	log      *slog.Logger
	now      func() time.Time
	secret   []byte // signs storage URLs; as old as the process
	writes   *limiter
}

// NewServer checks the configuration.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Access.Now == nil {
		c.Access.Now = c.Now
	}
	if c.Storage.Now == nil {
		c.Storage.Now = c.Now
	}
	a, err := newAccess(c.Access)
	if err != nil {
		return nil, err
	}
	st, err := newStorage(c.Storage)
	if err != nil {
		return nil, err
	}
	s := &Server{image: c.Image, director: c.Director, storage: st, access: a, log: c.Log, now: c.Now, secret: make([]byte, 32), writes: newLimiter(c.Now)}
	_, err = rand.Read(s.secret)
	return s, err
}

type handler func(w http.ResponseWriter, r *http.Request) error

// closed registers a route for those who have a right; an empty right is for all who are admitted.
type closed func(right Right, route string, h handler)

type whoKey struct{}

// who is the caller, for the log.
func who(r *http.Request) string {
	name, _ := r.Context().Value(whoKey{}).(string)
	return name
}

// Admin is the API of signing tools and the Director's administration. Every route but the token endpoint and signed
// storage URLs asks for credentials.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	free := func(route string, h handler) { mux.HandleFunc(route, s.wrap(h)) }
	closed := func(right Right, route string, h handler) {
		mux.HandleFunc(route, s.wrap(func(w http.ResponseWriter, r *http.Request) error {
			who, err := s.access.admit(r, right)
			if err != nil {
				return err
			}
			return h(w, r.WithContext(context.WithValue(r.Context(), whoKey{}, who.Name)))
		}))
	}
	for _, p := range []string{"/token", "/oauth2/token"} {
		free("POST "+p, s.access.token)
	}
	free("GET /healthz", func(w http.ResponseWriter, r *http.Request) error {
		writeBytes(w, http.StatusOK, []byte(`"ok"`))
		return nil
	})
	s.rootRoutes(closed, imagePath, "root/private_keys/", s.image.Repository)
	closed("", "GET "+imagePath+"targets.json", s.getTargets)
	closed(Publish, "PUT "+imagePath+"targets", s.putTargets)
	closed("", "GET "+imagePath+"delegations/{file}", s.getDelegation)
	closed(Publish, "PUT "+imagePath+"delegations/{file}", s.putDelegation)
	for _, role := range []string{"snapshot", "timestamp"} {
		closed("", "GET "+imagePath+role+".json", s.online(role))
	}
	closed(Publish, "POST "+imagePath+"multipart/initiate/{name...}", s.initiate)
	closed(Publish, "GET "+imagePath+"multipart/url/{name...}", s.partURL)
	closed(Publish, "PUT "+imagePath+"multipart/complete/{name...}", s.complete)
	closed(Publish, "PUT "+imagePath+"uploads/{name...}", s.redirectUpload)
	closed("", "GET "+imagePath+"uploads/{name...}", s.redirectDownload)
	free("PUT /storage/part", s.storePart)
	free("PUT /storage/file", s.storeFile)
	free("GET /storage/file", s.download)
	if s.director != nil {
		s.rootRoutes(closed, directorPath, "private_keys/", s.director.Repository)
		s.directorAdmin(closed)
	}
	mux.HandleFunc("/", s.wrap(func(w http.ResponseWriter, r *http.Request) error {
		return refuse(404, codeNotFound, "there is no such route")
	}))
	return mux
}

func (s *Server) wrap(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			writeError(w, r, s.log, err)
		}
	}
}

// readBody reads a body of at most limit bytes, unpacked.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body := io.Reader(http.MaxBytesReader(w, r.Body, limit))
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, refuse(400, codeBadRequest, "the body is not gzip")
		}
		body = z
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, codeBadRequest, "content encoding %q is not known", printable(r.Header.Get("Content-Encoding")))
	}
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return nil, err
	case err != nil:
		return nil, refuse(400, codeBadRequest, "the body could not be read: %v", err)
	case int64(len(data)) > limit:
		return nil, &http.MaxBytesError{Limit: limit}
	}
	return data, nil
}

// document limits leave room for a file that is indented.
func maxRoot() int64    { return 8 * int64(uptane.DefaultLimits().Root) }
func maxTargets() int64 { return 2 * int64(uptane.DefaultLimits().ImageTargets) }

func (s *Server) rootRoutes(closed closed, path, keys string, repo *Repository) {
	closed("", "GET "+path+"{file}", func(w http.ResponseWriter, r *http.Request) error {
		return s.serveRoot(w, r, repo, r.PathValue("file"))
	})
	closed(Publish, "POST "+path+"root", func(w http.ResponseWriter, r *http.Request) error {
		data, err := readBody(w, r, maxRoot())
		if err != nil {
			return err
		}
		if err := repo.PushRoot(r.Context(), data); err != nil {
			return err
		}
		return s.changed(w, r, "root stored", "repository", repo.kind)
	})
	closed(HandOver, "POST "+path+"root/cosign", func(w http.ResponseWriter, r *http.Request) error {
		data, err := readBody(w, r, maxRoot())
		if err != nil {
			return err
		}
		stored, err := repo.CosignRoot(r.Context(), data)
		if err != nil {
			return err
		}
		s.log.Info("root cosigned and stored", "repository", repo.kind, "by", who(r), "from", r.RemoteAddr)
		writeBytes(w, http.StatusOK, stored)
		return nil
	})
	closed(HandOver, "GET "+path+keys+"{keyid}", func(w http.ResponseWriter, r *http.Request) error {
		data, err := repo.PrivateKey(r.Context(), r.PathValue("keyid"))
		if err != nil {
			return err
		}
		defer clear(data)
		s.log.Warn("private key given out", "repository", repo.kind, "keyid", r.PathValue("keyid"), "by", who(r), "from", r.RemoteAddr)
		writeBytes(w, http.StatusOK, data)
		return nil
	})
	closed(HandOver, "DELETE "+path+keys+"{keyid}", func(w http.ResponseWriter, r *http.Request) error {
		if err := repo.DeleteKey(r.Context(), r.PathValue("keyid")); err != nil {
			return err
		}
		return s.changed(w, r, "private key destroyed", "repository", repo.kind, "keyid", r.PathValue("keyid"))
	})
}

func (s *Server) changed(w http.ResponseWriter, r *http.Request, what string, args ...any) error {
	s.log.Info(what, append(args, "by", who(r), "from", r.RemoteAddr)...)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveRoot answers root.json and N.root.json.
func (s *Server) serveRoot(w http.ResponseWriter, r *http.Request, repo *Repository, file string) error {
	version := 0
	if file != "root.json" {
		n, ok := strings.CutSuffix(file, ".root.json")
		v, err := strconv.Atoi(n)
		if !ok || err != nil || v < 1 || strconv.Itoa(v) != n {
			return refuse(404, codeNotFound, "there is no such role")
		}
		version = v
	}
	data, found, err := repo.Root(version)
	if err != nil {
		return err
	}
	if !found {
		return refuse(404, codeNotFound, "there is no root version %d", version)
	}
	writeMetadata(w, r, data)
	return nil
}

func (s *Server) getTargets(w http.ResponseWriter, r *http.Request) error {
	data, checksum, err := s.image.Targets()
	if err != nil {
		return err
	}
	w.Header().Set(ChecksumHeader, checksum)
	writeTagged(w, r, data, checksum)
	return nil
}

func (s *Server) putTargets(w http.ResponseWriter, r *http.Request) error {
	data, err := readBody(w, r, maxTargets())
	if err != nil {
		return err
	}
	if err := s.image.PushTargets(r.Context(), data, r.Header.Get(ChecksumHeader)); err != nil {
		return err
	}
	return s.changed(w, r, "targets stored")
}

func (s *Server) getDelegation(w http.ResponseWriter, r *http.Request) error {
	name, ok := strings.CutSuffix(r.PathValue("file"), ".json")
	if !ok {
		return refuse(404, codeNotFound, "there is no such role")
	}
	data, found, err := s.image.Delegation(name)
	if err != nil {
		return err
	}
	if !found {
		return refuse(404, "delegations_not_found", "there is no delegation %q", printable(name))
	}
	writeMetadata(w, r, data)
	return nil
}

func (s *Server) putDelegation(w http.ResponseWriter, r *http.Request) error {
	name, ok := strings.CutSuffix(r.PathValue("file"), ".json")
	if !ok {
		return refuse(404, codeNotFound, "there is no such role")
	}
	data, err := readBody(w, r, maxTargets())
	if err != nil {
		return err
	}
	if err := s.image.PushDelegation(r.Context(), name, data); err != nil {
		return err
	}
	return s.changed(w, r, "delegation stored", "name", name)
}

// online serves snapshot or timestamp, signed anew if it is time. What has expired because the keys are out of reach is
// not served.
func (s *Server) online(role string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.image.Refresh(r.Context()); err != nil {
			s.log.Error("signing online", "error", err.Error())
		}
		snapshot, stamp, err := s.image.ends()
		if err != nil {
			return err
		}
		get, ends := s.image.Snapshot, snapshot
		if role == "timestamp" {
			get, ends = s.image.Timestamp, stamp
		}
		data, err := get()
		if err != nil {
			return err
		}
		if !s.now().Before(ends) {
			return refuse(503, codeInternal, "the server's online keys are out of reach: %s has expired on %s", role, ends.Format(time.RFC3339))
		}
		writeMetadata(w, r, data)
		return nil
	}
}

// decode reads a small JSON body of our own routes.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := readBody(w, r, maxForm)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	if err := strict.JSON("body", body, v); err != nil {
		return refuseWith(400, codeBadRequest, err)
	}
	return nil
}
