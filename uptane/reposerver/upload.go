package reposerver

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Bounds of a multipart upload.
const (
	minPart  = 1 << 10
	maxPart  = 1 << 30
	maxParts = 10_000
)

// Upload is a file to be uploaded.
type Upload struct {
	// Name is the target's file name on the server.
	Name   string
	Source io.ReaderAt
	Size   int64
	// Force replaces a file of this name.
	Force bool
	// State is what Save was given last in an upload that was cut short; nil: from the beginning. Parts whose content
	// has changed since are sent again.
	State *UploadState
	// Save is called after each part, so that the upload can be resumed; nil: it cannot.
	Save func(UploadState) error
}

// UploadState says how far a multipart upload has come. It holds no secret.
type UploadState struct {
	Name     string         `json:"name"`
	Size     int64          `json:"size"`
	UploadID string         `json:"upload_id"`
	PartSize int64          `json:"part_size"`
	Parts    []UploadedPart `json:"parts"`
}

// UploadedPart is a part that the server has.
type UploadedPart struct {
	Part int    `json:"part"`
	MD5  string `json:"md5"` // base64
	ETag string `json:"etag"`
}

// Upload sends a file: in parts, each with its MD5 and sent again when it fails on the way, or in one piece where the
// server knows no parts. Neither token nor password goes to the storage that the server names.
func (c *Client) Upload(ctx context.Context, u Upload) error {
	if u.Size < 1 {
		return advice.New(advice.Usage, "", "%s is empty", u.Name)
	}
	state := u.State
	if state != nil && (state.Name != u.Name || state.Size != u.Size || !state.sane()) {
		state = nil
	}
	resumed := state != nil
	for {
		if state == nil {
			var err error
			if state, err = c.initiate(ctx, u); err != nil {
				var res *ResponseError
				if errors.As(err, &res) && res.Code == codeNotImplemented {
					return c.uploadWhole(ctx, u)
				}
				return err
			}
		}
		err := c.uploadParts(ctx, u, state)
		if resumed && errors.Is(err, ErrNotFound) {
			resumed, state = false, nil // the server has forgotten it: from the beginning
			continue
		}
		return err
	}
}

func (s *UploadState) sane() bool {
	return s.UploadID != "" && s.PartSize >= minPart && s.PartSize <= maxPart && (s.Size+s.PartSize-1)/s.PartSize <= maxParts && len(s.Parts) <= maxParts
}

func (c *Client) initiate(ctx context.Context, u Upload) (*UploadState, error) {
	a, err := c.call(ctx, request{method: http.MethodPost, path: "multipart/initiate/" + escapeName(u.Name), again: true,
		query: url.Values{"fileSize": {strconv.FormatInt(u.Size, 10)}, "force": {strconv.FormatBool(u.Force)}}})
	if err != nil {
		return nil, err
	}
	var doc struct {
		UploadID string `json:"uploadId"`
		PartSize int64  `json:"partSize"`
	}
	s := &UploadState{Name: u.Name, Size: u.Size}
	if err := json.Unmarshal(a.body, &doc); err == nil {
		s.UploadID, s.PartSize = doc.UploadID, doc.PartSize
	}
	if !s.sane() {
		return nil, advice.New(advice.Failed, "", "%w: multipart/initiate gives upload %q in parts of %d bytes", errAnswer, printable(doc.UploadID), doc.PartSize)
	}
	return s, nil
}

func (c *Client) uploadParts(ctx context.Context, u Upload, s *UploadState) error {
	done := int64(0)
	c.progress(0, u.Size)
	buf := make([]byte, min(s.PartSize, u.Size))
	for part := 1; done < u.Size; part++ {
		b := buf[:min(s.PartSize, u.Size-done)]
		// A short read at the end of the file is io.EOF even when it was complete.
		if n, err := u.Source.ReadAt(b, done); n < len(b) {
			return fmt.Errorf("%s is shorter than %d bytes: %w", u.Name, u.Size, err)
		}
		sum := md5.Sum(b)
		digest := base64.StdEncoding.EncodeToString(sum[:])
		at := slices.IndexFunc(s.Parts, func(p UploadedPart) bool { return p.Part == part })
		if at < 0 || s.Parts[at].MD5 != digest {
			tag, err := c.uploadPart(ctx, u.Name, s.UploadID, part, b, digest)
			if err != nil {
				return err
			}
			if at >= 0 {
				s.Parts = slices.Delete(s.Parts, at, at+1)
			}
			s.Parts = append(s.Parts, UploadedPart{part, digest, tag})
			if u.Save != nil {
				if err := u.Save(*s); err != nil {
					return err
				}
			}
		}
		done += int64(len(b))
		c.progress(done, u.Size)
	}
	return c.complete(ctx, u.Name, s)
}

func (c *Client) uploadPart(ctx context.Context, name, id string, part int, b []byte, digest string) (tag string, err error) {
	// A signed URL may end before the part arrives: each try asks for a new one.
	err = c.retry(ctx, true, func() error {
		a, err := c.once(ctx, request{method: http.MethodGet, path: "multipart/url/" + escapeName(name), query: url.Values{
			"part": {strconv.Itoa(part)}, "uploadId": {id}, "md5": {digest}, "contentLength": {strconv.Itoa(len(b))}}})
		if err != nil {
			return err
		}
		var doc struct {
			URI string `json:"uri"`
		}
		if err := json.Unmarshal(a.body, &doc); err != nil || doc.URI == "" {
			return fmt.Errorf("%w: multipart/url gives no uri", errAnswer)
		}
		header, err := c.store(ctx, doc.URI, io.NewSectionReader(readerAt(b), 0, int64(len(b))), int64(len(b)), http.Header{"Content-Md5": {digest}})
		if err != nil {
			return err
		}
		if tag = header.Get("ETag"); tag == "" || len(tag) > 1000 {
			return fmt.Errorf("%w: the storage gives no ETag", errAnswer)
		}
		return nil
	})
	return tag, err
}

func (c *Client) complete(ctx context.Context, name string, s *UploadState) error {
	type etag struct {
		Part int    `json:"part"`
		ETag string `json:"eTag"`
	}
	doc := struct {
		UploadID string `json:"uploadId"`
		Parts    []etag `json:"partETags"`
	}{UploadID: s.UploadID}
	last := int((s.Size + s.PartSize - 1) / s.PartSize)
	for _, p := range s.Parts {
		if p.Part <= last {
			doc.Parts = append(doc.Parts, etag{p.Part, p.ETag})
		}
	}
	slices.SortFunc(doc.Parts, func(a, b etag) int { return a.Part - b.Part })
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, request{method: http.MethodPut, path: "multipart/complete/" + escapeName(name), body: body, again: true})
	return err
}

// uploadWhole asks where to put the file, by an empty request, and puts it there.
func (c *Client) uploadWhole(ctx context.Context, u Upload) error {
	c.progress(0, u.Size)
	a, err := c.call(ctx, request{method: http.MethodPut, path: "uploads/" + escapeName(u.Name), redirect: true, again: true,
		query: url.Values{"force": {strconv.FormatBool(u.Force)}, "fileSize": {strconv.FormatInt(u.Size, 10)}}})
	if err != nil {
		return err
	}
	where := a.header.Get("Location")
	if !isRedirect(a.status) || where == "" {
		return advice.New(advice.Failed, "", "%w: uploads/%s answers %d without a place to upload to", errAnswer, u.Name, a.status)
	}
	err = c.retry(ctx, true, func() error {
		body := &counted{r: io.NewSectionReader(u.Source, 0, u.Size), tell: func(n int64) { c.progress(n, u.Size) }}
		_, err := c.store(ctx, where, body, u.Size, http.Header{"X-Ms-Blob-Type": {"BlockBlob"}})
		return err
	})
	if err == nil {
		c.progress(u.Size, u.Size)
	}
	return err
}

// store puts content at a storage URL: no token and no password go with it, and the client certificate only to the
// repository server itself.
func (c *Client) store(ctx context.Context, where string, body io.Reader, size int64, header http.Header) (http.Header, error) {
	at, client, err := c.place(where)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout+time.Duration(size/(16<<10))*time.Second) // 16 KiB/s is slow enough
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, at.String(), body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, hideQuery(err)
	}
	defer res.Body.Close()
	a, err := readAnswer(res, false)
	if err != nil {
		return nil, err
	}
	return a.header, nil
}

// place checks a storage URL that the server gave.
func (c *Client) place(where string) (*url.URL, *http.Client, error) {
	at, err := c.base.Parse(where)
	if err != nil || at.Host == "" || at.User != nil || at.Scheme != "https" && (at.Scheme != "http" || c.base.Scheme != "http") {
		return nil, nil, advice.New(advice.Refused, "", "%w: storage must be reached over https", errAnswer)
	}
	if at.Scheme == c.base.Scheme && at.Host == c.base.Host {
		return at, c.api, nil
	}
	return at, c.storage, nil
}

// hideQuery keeps a signed URL's signature out of messages.
func hideQuery(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		if at, perr := url.Parse(u.URL); perr == nil {
			at.RawQuery = ""
			u.URL = at.String()
		}
	}
	return err
}

// Uploaded fetches a file that was uploaded and returns the SHA-256 (hex) and the length of what came.
func (c *Client) Uploaded(ctx context.Context, name string) (digest string, size int64, err error) {
	return c.Download(ctx, name, math.MaxInt64, func() (io.Writer, error) { return io.Discard, nil })
}

// Download fetches a file that was uploaded, of at most most bytes, and returns the SHA-256 (hex) and the length of what
// came. begin gives what it is written to, and is called again where it begins anew after a fault on the way. A file that
// does not exist is ErrNotFound.
func (c *Client) Download(ctx context.Context, name string, most int64, begin func() (io.Writer, error)) (digest string, size int64, err error) {
	a, err := c.call(ctx, request{method: http.MethodGet, path: "uploads/" + escapeName(name), redirect: true, again: true})
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	take := func(body io.Reader) error {
		h.Reset()
		to, err := begin()
		if err != nil {
			return err
		}
		if size, err = io.Copy(io.MultiWriter(h, to), io.LimitReader(body, most)); err != nil || size < most {
			return err
		}
		if n, _ := body.Read(make([]byte, 1)); n > 0 {
			return advice.New(advice.Unverified, "", "%s is longer than %d bytes", show.Text(name), most)
		}
		return nil
	}
	if !isRedirect(a.status) {
		err = take(bytes.NewReader(a.body))
		return hex.EncodeToString(h.Sum(nil)), size, err
	}
	at, client, err := c.place(a.header.Get("Location"))
	if err != nil {
		return "", 0, err
	}
	err = c.retry(ctx, true, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return hideQuery(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			_, err := readAnswer(res, false)
			if err == nil {
				err = fmt.Errorf("%w: storage answers %s", errAnswer, show.Text(res.Status))
			}
			return err
		}
		return take(res.Body)
	})
	return hex.EncodeToString(h.Sum(nil)), size, err
}

// HasCommit asks an OSTree server, which takes the same credentials, whether it has a commit: 64 hex digits.
func (c *Client) HasCommit(ctx context.Context, server, commit string) (bool, error) {
	at, err := url.Parse(strings.TrimRight(server, "/") + "/objects/" + commit[:2] + "/" + commit[2:] + ".commit")
	if err != nil || at.Host == "" || at.User != nil || at.Scheme != "https" && (at.Scheme != "http" || !address.Loopback(at.Hostname())) {
		return false, advice.New(advice.Usage, "it must be https", "%q is not the URL of an OSTree server", server)
	}
	_, err = c.call(ctx, request{method: http.MethodHead, at: at, redirect: true, again: true})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

type readerAt []byte

func (b readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// counted tells how much was read.
type counted struct {
	r    io.Reader
	n    int64
	tell func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}

// escapeName escapes a target's name for a path, in which a slash stays one.
func escapeName(name string) string { return (&url.URL{Path: name}).EscapedPath() }
