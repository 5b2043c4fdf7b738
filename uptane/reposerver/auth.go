package reposerver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Auth is how a client proves who it is: NoAuth, OAuth2, Basic or MTLS.
type Auth interface{ isAuth() }

// NoAuth sends nothing.
type NoAuth struct{}

// OAuth2 fetches a token with the client credentials grant (RFC 6749, section 4.4) and sends it as a Bearer token. The
// token goes to the repository server alone, never to a storage host.
type OAuth2 struct {
	// Server is the token endpoint's URL. Unless it ends in /token already, /token is appended; Scope is sent only
	// when it did, for the older servers know none.
	Server       string
	ClientID     string
	ClientSecret string
	Scope        string
}

// Basic sends a user name and a password with every request to the repository server.
type Basic struct{ User, Password string }

// MTLS presents a client certificate.
type MTLS struct {
	Certificate tls.Certificate
	// Roots verify the server, in place of ClientConfig.Roots; nil: those.
	Roots *x509.CertPool
}

func (NoAuth) isAuth() {}
func (OAuth2) isAuth() {}
func (Basic) isAuth()  {}
func (MTLS) isAuth()   {}

// tokenURL is the endpoint and whether a scope goes with the request.
func (o OAuth2) tokenURL() (string, bool) {
	if strings.HasSuffix(o.Server, "/token") {
		return o.Server, true
	}
	return strings.TrimSuffix(o.Server, "/") + "/token", false
}

// tokens keeps one token until shortly before its end.
type tokens struct {
	auth OAuth2
	http *http.Client
	now  func() time.Time

	mu    sync.Mutex
	token string
	until time.Time
}

// maxToken bounds the answer of a token endpoint in bytes.
const maxToken = 1 << 20

// get returns a token. refused is one that the server did not take: it is not returned again.
func (t *tokens) get(ctx context.Context, refused string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token != "" && t.token != refused && t.now().Before(t.until) {
		return t.token, nil
	}
	t.token = ""
	endpoint, scoped := t.auth.tokenURL()
	form := url.Values{"grant_type": {"client_credentials"}}
	if scoped && t.auth.Scope != "" {
		form.Set("scope", t.auth.Scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.SetBasicAuth(t.auth.ClientID, t.auth.ClientSecret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	res, err := t.http.Do(req)
	if err != nil {
		return "", advice.Wrap(advice.Failed, err, "is the OAuth2 server of the credentials within reach?")
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxToken))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", advice.New(advice.Failed, "the client id or secret of the credentials may have been withdrawn",
			"OAuth2 server %s answers %s", show.Text(req.URL.Host), show.Text(res.Status))
	}
	var answer struct {
		Token   string `json:"access_token"`
		Type    string `json:"token_type"`
		Seconds int64  `json:"expires_in"`
	}
	if err := json.Unmarshal(data, &answer); err != nil || answer.Token == "" || strings.ContainsAny(answer.Token, " \t\r\n") {
		return "", advice.New(advice.Failed, "", "OAuth2 server %s answers without an access_token", show.Text(req.URL.Host))
	}
	if answer.Type != "" && !strings.EqualFold(answer.Type, "bearer") {
		return "", advice.New(advice.Failed, "", "OAuth2 server %s gives a token of type %q, not bearer", show.Text(req.URL.Host), answer.Type)
	}
	life := time.Duration(answer.Seconds) * time.Second
	if answer.Seconds <= 0 || answer.Seconds > 1<<30 {
		life = 5 * time.Minute
	}
	t.token, t.until = answer.Token, t.now().Add(life-life/10)
	return t.token, nil
}
