package reposerver

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Credential is a client that may administer the repositories: by the OAuth2 client credentials grant at /token (or
// /oauth2/token), or with the same pair as user name and password.
type Credential struct {
	ID     string
	Secret []byte
	// May is what the client may do; nothing if it is empty.
	May []Right
}

// Right is what somebody may do beyond reading the repositories' metadata, which all who are admitted may.
type Right string

// The rights. Publish is what signing tools do from day to day: uploads, and targets, delegations and roots that others have
// signed. HandOver is for moving the server's keys offline: it signs the next root as its holder wants it, so that who builds
// software must not have it. Assign gives devices targets and takes them back. Remove forgets a device. Look is for what is
// known of devices.
const (
	Publish  Right = "publish"
	HandOver Right = "hand-over"
	Assign   Right = "assign"
	Remove   Right = "remove"
	Look     Right = "look"
)

// Rights are all of them.
func Rights() []Right { return []Right{Publish, HandOver, Assign, Remove, Look} }

// Admitted is who is speaking, for the log, and what they may do.
type Admitted struct {
	Name string
	May  []Right
}

// AccessConfig says who may administer.
type AccessConfig struct {
	Credentials []Credential
	// Certificate says who holds a client certificate that the TLS listener has verified, and what they may do. It is asked
	// at every request, so that a revocation ends an open connection's rights. nil admits nobody by certificate.
	Certificate func(*tls.ConnectionState) (Admitted, error)
	// Open admits everybody: for a loopback address on a developer's desk.
	Open bool
	// Now defaults to time.Now.
	Now func() time.Time
}

// access knows who may administer. Secrets are kept as digests only.
type access struct {
	clients map[string]client
	certs   func(*tls.ConnectionState) (Admitted, error)
	open    bool
	now     func() time.Time
	guesses *limiter

	mu      sync.Mutex
	bearers map[[32]byte]bearer
}

type client struct {
	secret [32]byte
	who    Admitted
}

// bearer is a token that was given out.
type bearer struct {
	until time.Time
	who   Admitted
}

// minSecret is the shortest secret in bytes.
const minSecret = 16

// Check refuses what NewServer would refuse.
func (c AccessConfig) Check() error {
	_, err := newAccess(c)
	return err
}

func newAccess(c AccessConfig) (*access, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	a := &access{clients: map[string]client{}, certs: c.Certificate, open: c.Open, now: c.Now, guesses: newLimiter(c.Now), bearers: map[[32]byte]bearer{}}
	for _, k := range c.Credentials {
		if k.ID == "" || strings.Contains(k.ID, ":") || len(k.Secret) < minSecret {
			return nil, advice.New(advice.Usage, "", "client %q: an id without a colon and a secret of at least %d bytes are needed", k.ID, minSecret)
		}
		if _, ok := a.clients[k.ID]; ok {
			return nil, advice.New(advice.Usage, "", "client %q is there twice", k.ID)
		}
		for _, r := range k.May {
			if !slices.Contains(Rights(), r) {
				return nil, advice.New(advice.Usage, "publish, hand-over, assign, remove or look", "client %q: %q is not a right", k.ID, r)
			}
		}
		a.clients[k.ID] = client{sha256.Sum256(k.Secret), Admitted{"client " + k.ID, slices.Clone(k.May)}}
	}
	if !a.open && a.certs == nil && len(a.clients) == 0 {
		return nil, advice.New(advice.Usage, "name clients, or a CA of client certificates", "nobody could administer the repositories")
	}
	return a, nil
}

// known checks an id and a secret in a time that does not tell which of them is wrong.
func (a *access) known(id, secret string) (Admitted, bool) {
	want, ok := a.clients[id]
	have := sha256.Sum256([]byte(secret))
	return want.who, subtle.ConstantTimeCompare(want.secret[:], have[:]) == 1 && ok
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

// admit says who is speaking, and refuses who may not do what is asked. Where no particular right is needed it is empty.
func (a *access) admit(r *http.Request, need Right) (Admitted, error) {
	who, err := a.identify(r)
	if err != nil {
		return who, err
	}
	if need != "" && !slices.Contains(who.May, need) {
		return who, refuseHint(http.StatusForbidden, codeForbidden, "whoever runs the server gives rights, in its configuration", "%s may not %s", show.Text(who.Name), need)
	}
	return who, nil
}

func (a *access) identify(r *http.Request) (Admitted, error) {
	if a.open {
		return Admitted{"anybody", Rights()}, nil
	}
	if a.certs != nil && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		who, err := a.certs(r.TLS)
		if err != nil {
			return who, refuse(http.StatusForbidden, codeForbidden, "your certificate is not accepted: %v", err)
		}
		return who, nil
	}
	if id, secret, ok := r.BasicAuth(); ok {
		if who, ok := a.known(id, secret); ok {
			return who, nil
		}
	}
	if kind, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(kind, "Bearer") {
		sum := sha256.Sum256([]byte(token))
		a.mu.Lock()
		b, ok := a.bearers[sum]
		a.mu.Unlock()
		if ok && a.now().Before(b.until) {
			return b.who, nil
		}
	}
	return Admitted{}, a.guess(r)
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
		_, plain := a.known(id, secret)
		if u, err := url.QueryUnescape(id); err == nil && !plain {
			if s, err := url.QueryUnescape(secret); err == nil {
				id, secret = u, s
			}
		}
	}
	who, good := a.known(id, secret)
	if !ok || !good {
		return a.guess(r)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	token := hex.EncodeToString(raw)
	if err := a.remember(sha256.Sum256([]byte(token)), who); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "bearer", "expires_in": int(bearerLife / time.Second), "scope": form.Get("scope")})
	return nil
}

func (a *access) remember(sum [32]byte, who Admitted) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if len(a.bearers) >= maxBearers {
		for k, b := range a.bearers {
			if !now.Before(b.until) {
				delete(a.bearers, k)
			}
		}
		if len(a.bearers) >= maxBearers {
			return refuse(http.StatusTooManyRequests, codeBusy, "too many tokens are good at one time")
		}
	}
	a.bearers[sum] = bearer{now.Add(bearerLife), who}
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
