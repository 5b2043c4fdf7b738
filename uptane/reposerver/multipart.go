package reposerver

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

type pending struct {
	Name  string `json:"name"`
	Size  int64  `json:"size"`
	Part  int64  `json:"part_size"`
	Force bool   `json:"force,omitempty"`
	Begun string `json:"begun"`
}

// initiate begins a multipart upload.
func (s *storage) initiate(ctx context.Context, name string, size int64, force bool) (id string, part int64, err error) {
	if err := s.check(name, size, force); err != nil {
		return "", 0, err
	}
	release, err := s.lock.lock(ctx)
	if err != nil {
		return "", 0, err
	}
	defer release()
	if err := s.expire(); err != nil {
		return "", 0, err
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", 0, err
	}
	id = hex.EncodeToString(raw)
	data, err := json.Marshal(pending{name, size, s.partSize, force, s.now().UTC().Format(time.RFC3339)})
	if err != nil {
		return "", 0, err
	}
	dir := s.pendingPath(id)
	if err := durable.Mkdir(dir, 0o755); err != nil {
		return "", 0, err
	}
	return id, s.partSize, durable.WriteFile(filepath.Join(dir, "upload.json"), data, 0o644)
}

// expire forgets unfinished uploads that are too old, and refuses more than there may be.
func (s *storage) expire() error {
	list, err := os.ReadDir(filepath.Join(s.dir, "pending"))
	if err != nil {
		return err
	}
	left := 0
	for _, e := range list {
		info, err := e.Info()
		if err == nil && s.now().Sub(info.ModTime()) > pendingLife {
			err = os.RemoveAll(filepath.Join(s.dir, "pending", e.Name()))
		} else {
			left++
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if left >= maxPending {
		return refuse(429, codeBusy, "%d unfinished uploads are as many as may be", left)
	}
	return nil
}

func (s *storage) pendingPath(id string) string { return filepath.Join(s.dir, "pending", id) }

func (s *storage) upload(name, id string) (*pending, error) {
	missing := refuse(404, codeNotFound, "there is no upload %q of %s", printable(id), show.Text(printable(name)))
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 || hex.EncodeToString(b) != id {
		return nil, missing
	}
	at := filepath.Join(s.pendingPath(id), "upload.json")
	data, err := input.ReadFile(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	p := &pending{}
	if err := strict.JSON(at, data, p); err != nil {
		return nil, err
	}
	if p.Name != name {
		return nil, missing
	}
	return p, nil
}

func (p *pending) parts() int { return int((p.Size + p.Part - 1) / p.Part) }

// length is the size of part n, counted from 1; 0 if there is none.
func (p *pending) length(n int) int64 {
	if n < 1 || n > p.parts() {
		return 0
	}
	return min(p.Part, p.Size-int64(n-1)*p.Part)
}

// putPart stores a part whose MD5 (base64) and length the client has announced, and returns its ETag.
func (s *storage) putPart(name, id string, part int, digest string, r io.Reader) (etag string, err error) {
	p, err := s.upload(name, id)
	if err != nil {
		return "", err
	}
	want := p.length(part)
	if want == 0 {
		return "", refuse(400, codeBadRequest, "%s has no part %d", name, part)
	}
	at := filepath.Join(s.pendingPath(id), strconv.Itoa(part))
	h := md5.New()
	err = receive(at, io.LimitReader(r, want+1), h, func(n int64) error {
		if n != want {
			return refuse(400, codeBadRequest, "part %d of %s has %d bytes, not %d", part, name, n, want)
		}
		if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != digest {
			return refuse(400, "bad_digest", "part %d of %s arrived with MD5 %s, not %s", part, name, got, digest)
		}
		return nil
	})
	return `"` + hex.EncodeToString(h.Sum(nil)) + `"`, err
}

type partTag struct {
	Part int    `json:"part"`
	ETag string `json:"eTag"`
}

// complete puts the parts together. approve may refuse the whole by its digest. Completing again what is complete is no
// change.
func (s *storage) complete(name, id string, tags []partTag, approve func(digest string, size int64) error) (*stored, error) {
	if st, err := s.find(name); err == nil && st.Upload == id && id != "" {
		return st, nil
	}
	p, err := s.upload(name, id)
	if err != nil {
		return nil, err
	}
	if len(tags) != p.parts() {
		return nil, refuse(400, codeBadRequest, "%s has %d parts, and %d are named", name, p.parts(), len(tags))
	}
	var readers []io.Reader
	for n := 1; n <= p.parts(); n++ {
		f, err := input.Open(filepath.Join(s.pendingPath(id), strconv.Itoa(n)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, refuse(400, codeBadRequest, "part %d of %s has not arrived", n, name)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		h := md5.New()
		if _, err := io.Copy(h, f); err != nil {
			return nil, err
		}
		named := false
		for _, t := range tags {
			named = named || t.Part == n && (t.ETag == `"`+hex.EncodeToString(h.Sum(nil))+`"` || t.ETag == hex.EncodeToString(h.Sum(nil)))
		}
		if !named {
			return nil, refuse(400, codeBadRequest, "part %d of %s is not the one that is named", n, name)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		readers = append(readers, f)
	}
	if err := s.check(name, p.Size, p.Force); err != nil {
		return nil, err
	}
	st, err := s.keep(name, id, io.MultiReader(readers...), p.Size, approve)
	if err != nil {
		return nil, err
	}
	return st, os.RemoveAll(s.pendingPath(id))
}
