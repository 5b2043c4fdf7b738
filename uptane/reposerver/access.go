package reposerver

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
)

// Credential is a client that may administer the repositories: by the OAuth2 client credentials grant at /token (or
// /oauth2/token), or with the same pair as user name and password.
type Credential struct {
	ID     string
	Secret []byte
}

// AccessConfig says who may administer.
type AccessConfig struct {
	Credentials []Credential
	// Certificates admits whoever presents a client certificate that the TLS listener has verified.
	Certificates bool
	// Open admits everybody: for a loopback address on a developer's desk.
	Open bool
	// Now defaults to time.Now.
	Now func() time.Time
}

// access knows who may administer. Secrets are kept as digests only.
type access struct {
	clients map[string][32]byte
	certs   bool
	open    bool
	now     func() time.Time
	guesses *limiter

	mu      sync.Mutex
	bearers map[[32]byte]time.Time
}

// minSecret is the shortest secret in bytes.
const minSecret = 16

func newAccess(c AccessConfig) (*access, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	a := &access{clients: map[string][32]byte{}, certs: c.Certificates, open: c.Open, now: c.Now, guesses: newLimiter(c.Now), bearers: map[[32]byte]time.Time{}}
	for _, k := range c.Credentials {
		if k.ID == "" || strings.Contains(k.ID, ":") || len(k.Secret) < minSecret {
			return nil, advice.New(advice.Usage, "", "client %q: an id without a colon and a secret of at least %d bytes are needed", k.ID, minSecret)
		}
		if _, ok := a.clients[k.ID]; ok {
			return nil, advice.New(advice.Usage, "", "client %q is there twice", k.ID)
		}
		a.clients[k.ID] = sha256.Sum256(k.Secret)
	}
	if !a.open && !a.certs && len(a.clients) == 0 {
		return nil, advice.New(advice.Usage, "name clients, or a CA of client certificates", "nobody could administer the repositories")
	}
	return a, nil
}

// known checks an id and a secret in a time that does not tell which of them is wrong.
func (a *access) known(id, secret string) bool {
	want, ok := a.clients[id]
	have := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(want[:], have[:]) == 1 && ok
}

// guess bounds how fast one address may be wrong.
func (a *access) guess(r *http.Request) error {
	host, _, _ := strings.Cut(r.RemoteAddr, "%")
	if i := strings.LastIndexByte(host, ':'); i > 0 {
		host = host[:i]
	}
	if !a.guesses.allow(host) {
		return refuse(http.StatusTooManyRequests, codeBusy, "too many wrong credentials")
	}
	return refuse(http.StatusUnauthorized, codeUnauthorized, "credentials are missing or wrong")
}

// admit says whether the caller may administer.
func (a *access) admit(r *http.Request) error {
	if a.open || a.certs && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return nil
	}
	if id, secret, ok := r.BasicAuth(); ok && a.known(id, secret) {
		return nil
	}
	if kind, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(kind, "Bearer") {
		sum := sha256.Sum256([]byte(token))
		a.mu.Lock()
		until, ok := a.bearers[sum]
		a.mu.Unlock()
		if ok && a.now().Before(until) {
			return nil
		}
	}
	return a.guess(r)
}

// token is the token endpoint (RFC 6749, section 4.4).
func (a *access) token(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, maxForm)
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("grant_type") != "client_credentials" {
		return refuse(http.StatusBadRequest, "unsupported_grant_type", "only grant_type client_credentials is known")
	}
	id, secret, ok := r.BasicAuth()
	if ok {
		// RFC 6749, section 2.3.1: both are form-encoded first; garage-sign does not, which makes no difference to plain ones.
		if u, err := url.QueryUnescape(id); err == nil && !a.known(id, secret) {
			if s, err := url.QueryUnescape(secret); err == nil {
				id, secret = u, s
			}
		}
	}
	if !ok || !a.known(id, secret) {
		return a.guess(r)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	token := hex.EncodeToString(raw)
	if err := a.remember(sha256.Sum256([]byte(token))); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "bearer", "expires_in": int(bearerLife / time.Second), "scope": form.Get("scope")})
	return nil
}

func (a *access) remember(sum [32]byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if len(a.bearers) >= maxBearers {
		for k, until := range a.bearers {
			if !now.Before(until) {
				delete(a.bearers, k)
			}
		}
		if len(a.bearers) >= maxBearers {
			return refuse(http.StatusTooManyRequests, codeBusy, "too many tokens are good at one time")
		}
	}
	a.bearers[sum] = now.Add(bearerLife)
	return nil
}

// limiter is a bucket of tokens for each caller.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, buckets: map[string]bucket{}}
}

func (l *limiter) allow(who string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b, ok := l.buckets[who]
	if !ok {
		if len(l.buckets) >= maxBuckets {
			clear(l.buckets) // forgetting lets each caller burst once more, which is bounded too
		}
		b = bucket{burst, now}
	}
	b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*rate)
	b.at = now
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	l.buckets[who] = b
	return allowed
}
