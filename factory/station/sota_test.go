package station

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/softhsm"
)

// readAsClient reads sota.toml as the client in the field does: lines, sections, quotes off both ends, no escapes.
func readAsClient(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values, section := map[string]string{}, ""
	for _, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				t.Fatalf("sota.toml: %q", line)
			}
			values[section+"."+strings.TrimSpace(key)] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return values
}

// asClient is the device: it knows its import folder and nothing else, and finds its objects by the ids there. Its token is named, for the
// module shows those of other tests here; which one is first TestStationFirstToken of package factory tries.
type asClient struct {
	sota  map[string]string
	token hsm.Token
}

func startClient(t *testing.T, folder, label string) *asClient {
	t.Helper()
	c := &asClient{sota: readAsClient(t, filepath.Join(folder, "sota.toml"))}
	pin := []byte(c.sota["p11.pass"])
	c.token = must[hsm.Token](t)(pkcs11.Open(t.Context(), pkcs11.Config{Module: c.sota["p11.module"], URI: hsm.URI{Token: label}, Sessions: 1,
		PIN: func(context.Context, hsm.TokenInfo) ([]byte, error) { return bytes.Clone(pin), nil }}))
	t.Cleanup(func() { c.token.Close() })
	return c
}

func (c *asClient) id(t *testing.T, key string) []byte {
	return must[[]byte](t)(hex.DecodeString(c.sota[key]))
}

// TestClientTakesWhatIsProvisioned: a device that follows sota.toml to the letter connects with the key and
// certificate of its token and signs its manifests with key 03; other makers' programs find the same objects.
func TestClientTakesWhatIsProvisioned(t *testing.T) {
	store := softhsm.ForTest(t)
	l := newLine(t, "station-client")
	r, err := l.enroll(nil)
	if err != nil || !r.NewKey || !r.NewUptaneKey {
		t.Fatalf("%+v, %v", r, err)
	}
	c := startClient(t, l.conf.Import, l.board.Label)
	for key, want := range map[string]string{"tls.ca_source": "file", "tls.cert_source": "pkcs11", "tls.pkey_source": "pkcs11", "uptane.key_source": "pkcs11", "uptane.key_type": "RSA2048",
		"p11.uptane_key_id": "03", "p11.tls_pkey_id": "02", "p11.tls_clientcert_id": "01", "import.tls_cacert_path": "root.crt", "import.tls_clientcert_path": "", "import.tls_pkey_path": "",
		"tls.server_url_path": "/var/sota/import/gateway.url", "provision.primary_ecu_serial": "dev-1", "provision.primary_ecu_hardware_id": "board"} {
		if c.sota[key] != want {
			t.Errorf("%s is %q, not %q", key, c.sota[key], want)
		}
	}
	l.connects(t, c)
	uptane := must[hsm.Key](t)(c.token.Key(t.Context(), hsm.Query{ID: c.id(t, "p11.uptane_key_id")}))
	digest := signature.Digest([]byte("manifest"), signature.PSS256)
	sig := must[[]byte](t)(signature.Ask(t.Context(), rand.Reader, uptane, digest, signature.PSS256))
	if !signature.Verify(uptane.Public(), digest, signature.PSS256, sig) {
		t.Error("the Uptane key does not sign as RSASSA-PSS")
	}
	cmd := exec.Command("pkcs11-tool", "--module", l.board.Module, "--token-label", l.board.Label, "--login", "--pin", c.sota["p11.pass"], "-O")
	cmd.Env = append(os.Environ(), store.Env()...)
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"Public Key Object; RSA 2048", "ID:         03", "ID:         02", "ID:         01"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("pkcs11-tool does not see %q: %v\n%s", want, err, out)
		}
	}
}

// connects has the client connect with what the token holds to a server that believes the fleet root.
func (l *line) connects(t *testing.T, c *asClient) {
	key := must[hsm.Key](t)(c.token.Key(t.Context(), hsm.Query{ID: c.id(t, "p11.tls_pkey_id")}))
	cert := must[*x509.Certificate](t)(c.token.Certificate(t.Context(), c.id(t, "p11.tls_clientcert_id")))
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	pool.AddCert(l.fleet.cert)
	between.AddCert(l.ca.cert)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The client sends its leaf alone; the gateway has what stands between.
		_, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	way := s.Client().Transport.(*http.Transport).Clone()
	way.TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	resp, err := (&http.Client{Transport: way}).Get(s.URL)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
}

// TestWhatTheClientWouldMisread: values that the client reads otherwise than they were written are refused before anything is made.
func TestWhatTheClientWouldMisread(t *testing.T) {
	l := newLine(t, "station-misread")
	uri := must[hsm.URI](t)(hsm.ParseURI(l.board.URI))
	pin := filepath.Join(l.dir, "odd.pin")
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"a quote in the hardware id":      {func(c *Config) { c.Device.HardwareID = "a\"\nb = \"c" }, "device.hardware_id"},
		"a line in the hardware id":       {func(c *Config) { c.Device.HardwareID = "a\n[p11]" }, "device.hardware_id"},
		"a blank at the end":              {func(c *Config) { c.Device.HardwareID = "a " }, "device.hardware_id"},
		"a backslash in the module":       {func(c *Config) { c.Sota.Module = `/usr\lib` }, "module"},
		"a quote in the path":             {func(c *Config) { c.Sota.ImportPath = "/a\"b" }, "sota.import_path"},
		"an elliptic Uptane key":          {func(c *Config) { c.Device.UptaneAlgorithm = "P-256" }, "device.uptane_algorithm"},
		"one id for both keys":            {func(c *Config) { c.Device.UptaneKeyID = "02" }, "device.uptane_key_id"},
		"an id of two bytes":              {func(c *Config) { c.Device.UptaneKeyID = "0203" }, "device.uptane_key_id"},
		"a rule that nobody knows":        {func(c *Config) { c.Sota.FirstToken = "maybe" }, "sota.first_token"},
		"a PIN that ends the URI's value": {func(c *Config) { c.Device.Token = strings.Replace(l.board.URI, uri.PINSource, pin, 1) }, "the token's PIN"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(pin, []byte("1234;id=x"), 0o600); err != nil {
				t.Fatal(err)
			}
			before := *l.conf
			defer func() { *l.conf = before }()
			c.change(l.conf)
			_, err := l.enroll(nil)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "1234") {
				t.Errorf("%v does not say %q", err, c.says)
			}
			*l.conf = before
			l.untouched()
			l.noKeys(t)
		})
	}
}

func (l *line) noKeys(t *testing.T) {
	t.Helper()
	token := must[hsm.Token](t)(l.openToken(t.Context(), must[hsm.URI](t)(hsm.ParseURI(l.board.URI))))
	defer token.Close()
	if keys := must[[]hsm.Key](t)(token.Keys(t.Context())); len(keys) != 0 {
		t.Errorf("the token holds %d keys", len(keys))
	}
}

// TestFirstToken: whether the client would take another token is told, or ends the enrolment before a key is made, as configured.
func TestFirstToken(t *testing.T) {
	l := newLine(t, "station-second")
	mine := must[hsm.URI](t)(hsm.ParseURI(l.board.URI))
	own := hsm.TokenInfo{Label: mine.Token, Serial: must[softhsm.Board](t)(softhsm.ForTest(t).Board(mine.Token)).Serial, Initialized: true, PINSet: true, LoginRequired: true}
	other := hsm.TokenInfo{Label: "another", Serial: "1", Initialized: true, PINSet: true, LoginRequired: true}
	blank := hsm.TokenInfo{Label: "", Serial: "2"}
	enroll := func(all ...hsm.TokenInfo) (string, error) {
		var told strings.Builder
		s, err := New(l.conf, With{OpenToken: l.openToken, Tokens: func(string) ([]hsm.TokenInfo, error) { return all, nil },
			Done: func(format string, args ...any) { told.WriteString(strings.TrimSpace(format) + "\n") }})
		if err == nil {
			_, err = s.Enroll(t.Context())
		}
		return told.String(), err
	}
	l.conf.Sota.FirstToken = firstDemanded
	if _, err := enroll(other, own); advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), `"another"`) {
		t.Errorf("%v (kind %v)", err, advice.KindOf(err))
	}
	l.untouched()
	l.noKeys(t)
	l.conf.Sota.FirstToken = firstTold
	if told, err := enroll(other, own); err != nil || !strings.Contains(told, "take care: the client takes the first token") {
		t.Errorf("%q, %v", told, err)
	}
	l.conf.Sota.FirstToken = firstDemanded
	l.answer = nil
	// An empty slot before it is no token for the client; one that is only blank counts less.
	for _, all := range [][]hsm.TokenInfo{{own, other}, {blank, own}} {
		if got := clientToken(all); got == nil || got.Serial != own.Serial {
			t.Errorf("%v of %v", got, all)
		}
	}
	if got := clientToken(nil); got != nil {
		t.Errorf("%v of none", got)
	}
}

// otherToken answers for the device's token with somebody else's certificate or key once they were written: a token that lies.
type otherToken struct {
	hsm.Token
	key   hsm.Key
	wrote *bool
}

func (o *otherToken) PutCertificate(ctx context.Context, label string, id []byte, cert *x509.Certificate) error {
	err := o.Token.PutCertificate(ctx, label, id, cert)
	*o.wrote = err == nil
	return err
}

func (o *otherToken) Key(ctx context.Context, q hsm.Query) (hsm.Key, error) {
	if *o.wrote && o.key != nil && bytes.Equal(q.ID, o.key.Attributes().ID) {
		return wrongKey{o.key}, nil
	}
	return o.Token.Key(ctx, q)
}

// wrongKey has the public half of one key and signs with another.
type wrongKey struct{ hsm.Key }

func (k wrongKey) SignContext(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return []byte("no signature"), nil
}

// TestReadBack: a token that no longer signs for the certificate, or for its Uptane key, is found before the station says that it is done.
func TestReadBack(t *testing.T) {
	for name, c := range map[string]struct {
		id   []byte
		says string
	}{"the key of the certificate": {[]byte{2}, "the key of the certificate, read back"}, "the Uptane key": {[]byte{3}, "the Uptane key, read back"}} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, "station-readback-"+hex.EncodeToString(c.id))
			if _, err := l.enroll(nil); err != nil {
				t.Fatal(err)
			}
			wrote := true
			s, err := New(l.conf, With{OpenToken: func(ctx context.Context, uri hsm.URI) (hsm.Token, error) {
				token, err := l.openToken(ctx, uri)
				if err != nil {
					return nil, err
				}
				key, err := token.Key(ctx, hsm.Query{ID: c.id})
				return &otherToken{Token: token, key: key, wrote: &wrote}, err
			}})
			if err != nil {
				t.Fatal(err)
			}
			keys := must[keyStore](t)(openKeyStore(t.Context(), l.conf, s.openToken, s.done))
			defer keys.close()
			cert := must[*x509.Certificate](t)(keys.(*tokenStore).token.Certificate(t.Context(), []byte{1}))
			if err := keys.verify(t.Context(), cert); advice.KindOf(err) != advice.Unverified || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (kind %v)", err, advice.KindOf(err))
			}
			wrote = false
			if err := keys.verify(t.Context(), cert); err != nil {
				t.Errorf("a token that tells the truth: %v", err)
			}
			if err := keys.verify(t.Context(), l.ca.cert); advice.KindOf(err) != advice.Unverified {
				t.Errorf("another certificate: %v", err)
			}
		})
	}
}
