package reposerver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/uptane"
)

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
			return refuse(409, codeBadRequest, "the signed targets say that %s has SHA-256 %s and %d bytes; what arrived has %s and %d", name, show.Text(t.SHA256), t.Length, digest, size)
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
