package reposerver

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
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

// Admin is the API of signing tools and the Director's administration. Every route but the token endpoint and signed
// storage URLs asks for credentials.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	free := func(route string, h handler) { mux.HandleFunc(route, s.wrap(h)) }
	closed := func(route string, h handler) {
		mux.HandleFunc(route, s.wrap(func(w http.ResponseWriter, r *http.Request) error {
			if err := s.access.admit(r); err != nil {
				return err
			}
			return h(w, r)
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
	closed("GET "+imagePath+"targets.json", s.getTargets)
	closed("PUT "+imagePath+"targets", s.putTargets)
	closed("GET "+imagePath+"delegations/{file}", s.getDelegation)
	closed("PUT "+imagePath+"delegations/{file}", s.putDelegation)
	for _, role := range []string{"snapshot", "timestamp"} {
		closed("GET "+imagePath+role+".json", s.online(role))
	}
	closed("POST "+imagePath+"multipart/initiate/{name...}", s.initiate)
	closed("GET "+imagePath+"multipart/url/{name...}", s.partURL)
	closed("PUT "+imagePath+"multipart/complete/{name...}", s.complete)
	closed("PUT "+imagePath+"uploads/{name...}", s.redirectUpload)
	closed("GET "+imagePath+"uploads/{name...}", s.redirectDownload)
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

func (s *Server) rootRoutes(closed func(string, handler), path, keys string, repo *Repository) {
	closed("GET "+path+"{file}", func(w http.ResponseWriter, r *http.Request) error {
		return s.serveRoot(w, r, repo, r.PathValue("file"))
	})
	closed("POST "+path+"root", func(w http.ResponseWriter, r *http.Request) error {
		data, err := readBody(w, r, maxRoot())
		if err != nil {
			return err
		}
		if err := repo.PushRoot(r.Context(), data); err != nil {
			return err
		}
		return s.changed(w, r, "root stored", "repository", repo.kind)
	})
	closed("POST "+path+"root/cosign", func(w http.ResponseWriter, r *http.Request) error {
		data, err := readBody(w, r, maxRoot())
		if err != nil {
			return err
		}
		stored, err := repo.CosignRoot(r.Context(), data)
		if err != nil {
			return err
		}
		s.log.Info("root cosigned and stored", "repository", repo.kind, "from", r.RemoteAddr)
		writeBytes(w, http.StatusOK, stored)
		return nil
	})
	closed("GET "+path+keys+"{keyid}", func(w http.ResponseWriter, r *http.Request) error {
		data, err := repo.PrivateKey(r.Context(), r.PathValue("keyid"))
		if err != nil {
			return err
		}
		defer clear(data)
		s.log.Warn("private key given out", "repository", repo.kind, "keyid", r.PathValue("keyid"), "from", r.RemoteAddr)
		writeBytes(w, http.StatusOK, data)
		return nil
	})
	closed("DELETE "+path+keys+"{keyid}", func(w http.ResponseWriter, r *http.Request) error {
		if err := repo.DeleteKey(r.Context(), r.PathValue("keyid")); err != nil {
			return err
		}
		return s.changed(w, r, "private key destroyed", "repository", repo.kind, "keyid", r.PathValue("keyid"))
	})
}

func (s *Server) changed(w http.ResponseWriter, r *http.Request, what string, args ...any) error {
	s.log.Info(what, append(args, "from", r.RemoteAddr)...)
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
	writeBytes(w, http.StatusOK, data)
	return nil
}

func (s *Server) getTargets(w http.ResponseWriter, r *http.Request) error {
	data, checksum, err := s.image.Targets()
	if err != nil {
		return err
	}
	w.Header().Set(ChecksumHeader, checksum)
	writeBytes(w, http.StatusOK, data)
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
	writeBytes(w, http.StatusOK, data)
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
		var data []byte
		var doc uptane.Document
		var err error
		if role == "snapshot" {
			if data, err = s.image.Snapshot(); err == nil {
				doc, err = uptane.ParseSnapshot(data)
			}
		} else if data, err = s.image.Timestamp(); err == nil {
			doc, err = uptane.ParseTimestamp(data)
		}
		if err != nil {
			return err
		}
		if err := uptane.CheckExpiry(doc, s.now()); err != nil {
			return refuse(503, codeInternal, "the server's online keys are out of reach: %v", err)
		}
		writeBytes(w, http.StatusOK, data)
		return nil
	}
}

// targetName is the name in the path.
func targetName(r *http.Request) (string, error) {
	name := r.PathValue("name")
	if err := uptane.CheckTargetName(name); err != nil {
		return "", refuseWith(400, codeBadRequest, err)
	}
	return name, nil
}

// approve refuses a file whose content is not what the signed targets say of its name.
func (s *Server) approve(name string) func(string, int64) error {
	return func(digest string, size int64) error {
		t, found, err := s.image.Find(name)
		if err != nil {
			return err
		}
		if found && (t.SHA256 != digest || t.Length != size) {
			return refuse(409, codeBadRequest, "the signed targets say that %s has SHA-256 %s and %d bytes; what arrived has %s and %d", name, t.SHA256, t.Length, digest, size)
		}
		return nil
	}
}

func (s *Server) initiate(w http.ResponseWriter, r *http.Request) error {
	name, err := targetName(r)
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(r.URL.Query().Get("fileSize"), 10, 64)
	if err != nil {
		return refuse(400, codeBadRequest, "fileSize is missing or no number")
	}
	id, part, err := s.storage.initiate(r.Context(), name, size, r.URL.Query().Get("force") == "true")
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"uploadId": id, "partSize": part})
	return nil
}

func (s *Server) partURL(w http.ResponseWriter, r *http.Request) error {
	name, err := targetName(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	p, err := s.storage.upload(name, q.Get("uploadId"))
	if err != nil {
		return err
	}
	part, err := strconv.Atoi(q.Get("part"))
	if err != nil || p.length(part) == 0 || q.Get("contentLength") != strconv.FormatInt(p.length(part), 10) {
		return refuse(400, codeBadRequest, "part or contentLength is not one of upload %s", q.Get("uploadId"))
	}
	if sum, err := base64.StdEncoding.DecodeString(q.Get("md5")); err != nil || len(sum) != 16 {
		return refuse(400, codeBadRequest, "md5 is not the base64 of an MD5")
	}
	at := s.signed(r, "/storage/part", url.Values{"method": {"PUT"}, "name": {name}, "id": {q.Get("uploadId")}, "part": {q.Get("part")}, "md5": {q.Get("md5")}})
	writeJSON(w, http.StatusOK, map[string]any{"uri": at})
	return nil
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request) error {
	name, err := targetName(r)
	if err != nil {
		return err
	}
	body, err := readBody(w, r, 4<<20)
	if err != nil {
		return err
	}
	var doc struct {
		ID    string    `json:"uploadId"`
		Parts []partTag `json:"partETags"`
	}
	if err := strict.JSON("body", body, &doc); err != nil {
		return refuseWith(400, codeBadRequest, err)
	}
	st, err := s.storage.complete(name, doc.ID, doc.Parts, s.approve(name))
	if err != nil {
		return err
	}
	return s.changed(w, r, "file uploaded", "name", name, "sha256", st.SHA256, "bytes", st.Size)
}

// redirectUpload says where a file in one piece goes. The body, if any, is not read.
func (s *Server) redirectUpload(w http.ResponseWriter, r *http.Request) error {
	name, err := targetName(r)
	if err != nil {
		return err
	}
	force := r.URL.Query().Get("force")
	if size := r.URL.Query().Get("fileSize"); size != "" {
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return refuse(400, codeBadRequest, "fileSize is no number")
		}
		if err := s.storage.check(name, n, force == "true"); err != nil {
			return err
		}
	}
	w.Header().Set("Location", s.signed(r, "/storage/file", url.Values{"method": {"PUT"}, "name": {name}, "force": {force}}))
	w.WriteHeader(http.StatusFound)
	return nil
}

func (s *Server) redirectDownload(w http.ResponseWriter, r *http.Request) error {
	name, err := targetName(r)
	if err != nil {
		return err
	}
	if _, err := s.storage.find(name); err != nil {
		return err
	}
	w.Header().Set("Location", s.signed(r, "/storage/file", url.Values{"method": {"GET"}, "name": {name}}))
	w.WriteHeader(http.StatusFound)
	return nil
}

// signed makes a storage URL: what may be done with it stands in it, and it needs no other credentials.
func (s *Server) signed(r *http.Request, path string, q url.Values) string {
	q.Set("until", strconv.FormatInt(s.now().Add(storageLife).Unix(), 10))
	q.Set("sig", s.mac(path, q))
	u := url.URL{Scheme: "http", Host: r.Host, Path: path, RawQuery: q.Encode()}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	return u.String()
}

func (s *Server) mac(path string, q url.Values) string {
	h := hmac.New(sha256.New, s.secret)
	h.Write([]byte(path + "?" + q.Encode()))
	return hex.EncodeToString(h.Sum(nil))
}

func (s *Server) checkSigned(r *http.Request) (url.Values, error) {
	q := r.URL.Query()
	sig := q.Get("sig")
	q.Del("sig")
	until, err := strconv.ParseInt(q.Get("until"), 10, 64)
	if !hmac.Equal([]byte(sig), []byte(s.mac(r.URL.Path, q))) || err != nil || s.now().Unix() > until || q.Get("method") != r.Method && !(q.Get("method") == "GET" && r.Method == "HEAD") {
		return nil, refuse(http.StatusForbidden, codeUnauthorized, "the storage URL is wrong or has ended")
	}
	return q, nil
}

func (s *Server) storePart(w http.ResponseWriter, r *http.Request) error {
	q, err := s.checkSigned(r)
	if err != nil {
		return err
	}
	part, err := strconv.Atoi(q.Get("part"))
	if err != nil {
		return refuse(400, codeBadRequest, "part is no number")
	}
	tag, err := s.storage.putPart(q.Get("name"), q.Get("id"), part, q.Get("md5"), http.MaxBytesReader(w, r.Body, s.storage.partSize+1))
	if err != nil {
		return err
	}
	w.Header().Set("ETag", tag)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) storeFile(w http.ResponseWriter, r *http.Request) error {
	q, err := s.checkSigned(r)
	if err != nil {
		return err
	}
	if r.ContentLength < 0 {
		return refuse(http.StatusLengthRequired, codeBadRequest, "Content-Length is missing")
	}
	name := q.Get("name")
	st, err := s.storage.putWhole(name, q.Get("force") == "true", http.MaxBytesReader(w, r.Body, s.storage.maxFile+1), r.ContentLength, s.approve(name))
	if err != nil {
		return err
	}
	s.log.Info("file uploaded", "name", name, "sha256", st.SHA256, "bytes", st.Size)
	w.Header().Set("ETag", `"`+st.SHA256+`"`)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) download(w http.ResponseWriter, r *http.Request) error {
	q, err := s.checkSigned(r)
	if err != nil {
		return err
	}
	f, st, err := s.storage.open(q.Get("name"))
	if err != nil {
		return err
	}
	defer f.Close()
	serveFile(w, r, f, st)
	return nil
}

func serveFile(w http.ResponseWriter, r *http.Request, f io.ReadSeeker, st *stored) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+st.SHA256+`"`)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, f)
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
