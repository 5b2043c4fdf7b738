package reposerver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// recorder keeps what came in.
type recorder struct {
	mu   sync.Mutex
	seen []*http.Request
	form []string
}

func (r *recorder) take(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, _ := io.ReadAll(req.Body)
	r.seen, r.form = append(r.seen, req), append(r.form, string(body))
}

func TestOAuth2(t *testing.T) {
	for _, c := range []struct{ server, scope, path, form string }{
		{"", "x", "/token", "grant_type=client_credentials"},
		{"/auth", "x", "/auth/token", "grant_type=client_credentials"},
		{"/oauth2/token", "x/y", "/oauth2/token", "grant_type=client_credentials&scope=x%2Fy"},
		{"/oauth2/token", "", "/oauth2/token", "grant_type=client_credentials"},
	} {
		var rec recorder
		tokens := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec.take(r)
			if strings.HasSuffix(r.URL.Path, "token") {
				tokens++
				fmt.Fprintf(w, `{"access_token":"t%d","token_type":"Bearer","expires_in":3600}`, tokens)
				return
			}
			if r.Header.Get("Authorization") != "Bearer t2" { // the first token has ended early
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = w.Write([]byte("root"))
		}))
		client := must(reposerver.NewClient(reposerver.ClientConfig{URL: srv.URL, Auth: reposerver.OAuth2{Server: srv.URL + c.server, ClientID: "id", ClientSecret: "se:cret", Scope: c.scope}}))(t)
		if data, err := client.Root(t.Context()); err != nil || string(data) != "root" {
			t.Errorf("%s: %v", c.server, err)
		}
		if _, err := client.Root(t.Context()); err != nil || tokens != 2 {
			t.Errorf("%s: %d tokens, %v", c.server, tokens, err)
		}
		first := rec.seen[0]
		id, pass, _ := first.BasicAuth()
		if first.URL.Path != c.path || rec.form[0] != c.form || id != "id" || pass != "se:cret" {
			t.Errorf("%s: %s %q %s %s", c.server, first.URL.Path, rec.form[0], id, pass)
		}
		srv.Close()
	}
}

func TestCredentials(t *testing.T) {
	o := folderOffice(t)
	for name, auth := range map[string]reposerver.Auth{
		"nothing":        reposerver.NoAuth{},
		"a wrong secret": reposerver.Basic{User: "build", Password: "wrong"},
		"a wrong name":   reposerver.Basic{User: "other", Password: secret},
		"wrong OAuth2":   reposerver.OAuth2{Server: o.admin.URL, ClientID: "build", ClientSecret: "wrong"},
	} {
		client := must(reposerver.NewClient(reposerver.ClientConfig{URL: o.admin.URL, Auth: auth}))(t)
		o.unchanged(name, func() {
			for what, err := range map[string]error{
				"root": first2(client.Root(t.Context())), "push": client.PushRoot(t.Context(), []byte("{}")), "delete": client.DeletePrivateKey(t.Context(), "x"),
			} {
				if err == nil || strings.Contains(err.Error(), secret) {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
		})
	}
	good := must(reposerver.NewClient(reposerver.ClientConfig{URL: o.admin.URL, Auth: reposerver.Basic{User: "build", Password: secret}}))(t)
	if _, err := good.Root(t.Context()); err != nil {
		t.Error(err)
	}
	// A token ends.
	if _, err := o.client.Root(t.Context()); err != nil {
		t.Error(err)
	}
	o.clock.add(2 * time.Hour)
	if _, err := o.client.Root(t.Context()); err != nil {
		t.Errorf("with a new token: %v", err)
	}
	// Guessing is slowed down.
	last := 0
	for range 30 {
		req := must(http.NewRequest(http.MethodPost, o.admin.URL+"/token", strings.NewReader("grant_type=client_credentials")))(t)
		req.SetBasicAuth("build", "guess")
		last, _ = o.do(req)
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("30 guesses: %d", last)
	}
	if _, err := good.Root(t.Context()); err != nil {
		t.Errorf("the honest client is locked out: %v", err)
	}
	for name, c := range map[string]reposerver.ClientConfig{
		"no URL":                 {URL: "x"},
		"a secret in clear":      {URL: "http://example.com", Auth: reposerver.Basic{User: "a", Password: "b"}},
		"a certificate in clear": {URL: "http://127.0.0.1:1", Auth: reposerver.MTLS{}},
		"OAuth2 in clear":        {URL: "https://example.com", Auth: reposerver.OAuth2{Server: "http://example.com"}},
		"a password in the URL":  {URL: "https://a:b@example.com"},
	} {
		if _, err := reposerver.NewClient(c); err == nil {
			t.Errorf("%s: accepted", name)
		} else if k := advice.KindOf(err); k != advice.Usage && k != advice.Refused {
			t.Errorf("%s: kind %v", name, k)
		}
	}
}

func first2(_ []byte, err error) error { return err }

// TestRedirect: no credentials wander to where a server points.
func TestRedirect(t *testing.T) {
	var rec recorder
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rec.take(r) }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
	}))
	defer srv.Close()
	client := must(reposerver.NewClient(reposerver.ClientConfig{URL: srv.URL, Auth: reposerver.Basic{User: "a", Password: "b"}}))(t)
	if _, err := client.Root(t.Context()); err == nil || len(rec.seen) != 0 {
		t.Errorf("%v, %d requests elsewhere", err, len(rec.seen))
	}
}

// TestStorageHost uploads to another host, in parts and in one piece: it sees neither token nor password.
func TestStorageHost(t *testing.T) {
	for _, whole := range []bool{false, true} {
		var rec recorder
		store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec.take(r)
			w.Header().Set("ETag", `"tag"`)
		}))
		var completed recorder
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, _, ok := r.BasicAuth(); !ok {
				t.Error("no credentials for the server itself")
			}
			switch p := strings.TrimPrefix(r.URL.Path, "/api/v1/user_repo/"); {
			case whole && strings.HasPrefix(p, "multipart/"):
				w.WriteHeader(http.StatusNotImplemented)
				_, _ = w.Write([]byte(`{"code":"not_implemented","description":"no parts here"}`))
			case strings.HasPrefix(p, "multipart/initiate/"):
				_, _ = w.Write([]byte(`{"uploadId":"u","partSize":1024}`))
			case strings.HasPrefix(p, "multipart/url/"):
				fmt.Fprintf(w, `{"uri":%q}`, store.URL+"/part?"+r.URL.RawQuery)
			case strings.HasPrefix(p, "multipart/complete/"):
				completed.take(r)
			case strings.HasPrefix(p, "uploads/"):
				http.Redirect(w, r, store.URL+"/whole", http.StatusFound)
			}
		}))
		client := must(reposerver.NewClient(reposerver.ClientConfig{URL: srv.URL, Auth: reposerver.Basic{User: "a", Password: "b"}, RetryDelay: time.Millisecond}))(t)
		content := strings.Repeat("x", 2500)
		if err := client.Upload(t.Context(), reposerver.Upload{Name: "a b/c-1", Source: strings.NewReader(content), Size: 2500}); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{false: 3, true: 1}[whole]; len(rec.seen) != want || strings.Join(rec.form, "") != content {
			t.Errorf("whole %t: %d requests", whole, len(rec.seen))
		}
		for _, r := range rec.seen {
			if r.Header.Get("Authorization") != "" || r.Method != http.MethodPut || !whole && r.Header.Get("Content-Md5") == "" {
				t.Errorf("the storage host saw %v", r.Header)
			}
		}
		if !whole && (len(completed.form) != 1 || completed.form[0] != `{"uploadId":"u","partETags":[{"part":1,"eTag":"\"tag\""},{"part":2,"eTag":"\"tag\""},{"part":3,"eTag":"\"tag\""}]}`) {
			t.Errorf("completed with %v", completed.form)
		}
		srv.Close()
		store.Close()
	}
}

// TestResume: an upload that breaks off goes on where it was; a part that has changed since is sent again.
func TestResume(t *testing.T) {
	o := folderOffice(t)
	content := []byte(strings.Repeat("0123456789abcdef", 2048)) // 32 KiB: 8 parts of 4 KiB
	var state *reposerver.UploadState
	broken := errors.New("the disk is full")
	up := reposerver.Upload{Name: "big-1", Source: bytes.NewReader(content), Size: int64(len(content)), Save: func(s reposerver.UploadState) error {
		s.Parts = append([]reposerver.UploadedPart(nil), s.Parts...)
		state = &s
		if len(s.Parts) == 5 {
			return broken
		}
		return nil
	}}
	if err := o.client.Upload(t.Context(), up); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	content[100]++ // in the first part
	sent := 0
	up.State, up.Save = state, func(reposerver.UploadState) error { sent++; return nil }
	var told []int64
	client := must(reposerver.NewClient(reposerver.ClientConfig{URL: o.admin.URL, Auth: reposerver.Basic{User: "build", Password: secret}, Progress: func(done, total int64) { told = append(told, done) }}))(t)
	if err := client.Upload(t.Context(), up); err != nil {
		t.Fatal(err)
	}
	if sent != 4 || told[len(told)-1] != int64(len(content)) {
		t.Errorf("%d parts were sent, progress %v", sent, told)
	}
	if sum, _, err := client.Uploaded(t.Context(), "big-1"); err != nil || sum != digest(content) {
		t.Errorf("%s %v", sum, err)
	}
	// An upload that the server has forgotten begins anew.
	up.State = &reposerver.UploadState{Name: "big-1", Size: up.Size, UploadID: strings.Repeat("ab", 16), PartSize: 4 << 10}
	up.Force = true
	if err := client.Upload(t.Context(), up); err != nil {
		t.Error(err)
	}
	up.State, up.Force = nil, false
	o.unchanged("again without force", func() {
		if err := client.Upload(t.Context(), up); !errors.Is(err, reposerver.ErrExists) {
			t.Error(err)
		}
	})
	for name, u := range map[string]reposerver.Upload{
		"too large":    {Name: "x", Source: bytes.NewReader(nil), Size: 2 << 20},
		"empty":        {Name: "x", Source: bytes.NewReader(nil)},
		"two dots":     {Name: "../x", Source: bytes.NewReader(content), Size: 10},
		"a long name":  {Name: strings.Repeat("x", 300), Source: bytes.NewReader(content), Size: 10},
		"a lying size": {Name: "x", Source: bytes.NewReader(content[:5]), Size: 10},
	} {
		err := client.Upload(t.Context(), u)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, _, err := client.Uploaded(t.Context(), u.Name); err == nil {
			t.Errorf("%s: there now", name)
		}
	}
}

// TestStorageURLs: a storage URL allows what it says, once its signature fits, and nothing else.
func TestStorageURLs(t *testing.T) {
	o := folderOffice(t)
	req := must(http.NewRequest(http.MethodPut, o.admin.URL+"/api/v1/user_repo/uploads/file-1", nil))(t)
	req.SetBasicAuth("build", secret)
	no := *http.DefaultClient
	no.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res := must(no.Do(req))(t)
	res.Body.Close()
	where := res.Header.Get("Location")
	put := func(url, body string) int {
		s, _ := o.do(must(http.NewRequest(http.MethodPut, url, strings.NewReader(body)))(t))
		return s
	}
	for name, url := range map[string]string{
		"another name":   strings.Replace(where, "file-1", "file-2", 1),
		"no signature":   strings.Split(where, "&sig=")[0],
		"another route":  strings.Replace(where, "/storage/file", "/storage/part", 1),
		"another length": where + "&more=1",
	} {
		o.unchanged(name, func() {
			if s := put(url, "x"); s != http.StatusForbidden {
				t.Errorf("%s: %d", name, s)
			}
		})
	}
	if s, _ := o.do(must(http.NewRequest(http.MethodGet, where, nil))(t)); s != http.StatusForbidden {
		t.Errorf("read with a URL for writing: %d", s)
	}
	if s := put(where, "content"); s != http.StatusCreated {
		t.Fatalf("put: %d", s)
	}
	o.clock.add(2 * time.Hour)
	o.unchanged("too late", func() {
		if s := put(where, "x"); s != http.StatusForbidden {
			t.Errorf("too late: %d", s)
		}
	})
	// What the signed targets say of a name cannot be overwritten by other content.
	root, key := newSigner(t), newSigner(t)
	o.moveOffline(o.client, root, key)
	if err := o.push(key, func(c *uptane.TargetsConfig) { c.Targets["file-1"] = entry(t, "content", "file", "1", "board") }); err != nil {
		t.Fatal(err)
	}
	err := o.client.Upload(t.Context(), reposerver.Upload{Name: "file-1", Source: strings.NewReader("another"), Size: 7, Force: true})
	if s, _ := status(err); s != 409 {
		t.Errorf("other content: %v", err)
	}
	if got := o.file("", "/repo/targets/file-1"); string(got) != "content" {
		t.Errorf("served %q", got)
	}
}

// TestRetry: what fails on the way is sent again; what is refused is not.
func TestRetry(t *testing.T) {
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer srv.Close()
	client := must(reposerver.NewClient(reposerver.ClientConfig{URL: srv.URL, RetryDelay: time.Millisecond}))(t)
	if _, err := client.Root(t.Context()); err != nil || n != 3 {
		t.Errorf("%d tries, %v", n, err)
	}
	n = 0
	if err := client.PushRoot(t.Context(), []byte("{}")); err == nil || n != 1 {
		t.Errorf("a push: %d tries, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Root(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestMTLS: the certificate is enough, and goes to the server alone.
func TestMTLS(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(der))(t))
	identity := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	o := folderOffice(t)
	server := must(reposerver.NewServer(reposerver.ServerConfig{Image: o.image, Storage: reposerver.StorageConfig{Dir: t.TempDir()}, Access: reposerver.AccessConfig{Certificate: func(*tls.ConnectionState) (reposerver.Admitted, error) {
		return reposerver.Admitted{Name: "operator", May: []reposerver.Right{reposerver.Publish, reposerver.HandOver}}, nil
	}}}))(t)
	srv := httptest.NewUnstartedServer(server.Admin())
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{identity}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	srv.StartTLS()
	defer srv.Close()
	with := must(reposerver.NewClient(reposerver.ClientConfig{URL: srv.URL, Auth: reposerver.MTLS{Certificate: identity, Roots: pool}}))(t)
	if _, err := with.Root(t.Context()); err != nil {
		t.Error(err)
	}
	if err := with.Upload(t.Context(), reposerver.Upload{Name: "f-1", Source: strings.NewReader("content"), Size: 7}); err != nil {
		t.Error(err)
	}
	without := must(reposerver.NewClient(reposerver.ClientConfig{URL: srv.URL, Roots: pool}))(t)
	if _, err := without.Root(t.Context()); !errors.Is(err, reposerver.ErrUnauthorized) {
		t.Error(err)
	}
	stranger := must(reposerver.NewClient(reposerver.ClientConfig{URL: srv.URL, RetryDelay: time.Millisecond}))(t)
	if _, err := stranger.Root(t.Context()); err == nil {
		t.Error("a server with an unknown certificate is believed")
	}
	if _, err := with.CosignRoot(t.Context(), []byte("{}")); err == nil {
		t.Error("an empty root is cosigned")
	}
}
