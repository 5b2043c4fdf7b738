package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"text/template"
	"time"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) { softhsm.Main(m) }

var asserted = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// stage is where a test performs a ceremony: fresh SoftHSM tokens, officers with key files, inputs in a folder.
type stage struct {
	t           testing.TB
	dir         string
	boards      map[string]softhsm.Board
	officers    []crypto.Signer
	roster      *quorum.Roster
	tool        Tool
	now         time.Time
	Ceremony    string
	Vault       string
	VaultSerial string
}

var stages atomic.Int64

// newStage makes two tokens, a roster of 2 of 3, and every input of testdata/full.yaml.
func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), boards: map[string]softhsm.Board{}, Ceremony: "first", now: asserted,
		tool: Tool{Version: "test", SHA256: hexSHA256([]byte("the tool"))}}
	n := stages.Add(1)
	for _, name := range []string{"roots", "online"} {
		b, err := softhsm.ForTest(t).Create(fmt.Sprintf("%s %d", name, n))
		if err != nil {
			t.Fatal(err)
		}
		s.boards[name] = b
	}
	config := quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: asserted.Add(-time.Hour)}
	for i := range 3 {
		_, key, _ := ed25519.GenerateKey(rand.Reader)
		s.officers = append(s.officers, key)
		config.Officers = append(config.Officers, quorum.Officer{Name: fmt.Sprintf("Officer %d", i+1), Role: quorum.RoleOfficer, SigningKey: key.Public(), Scheme: quorum.Ed25519})
	}
	var err error
	if s.roster, err = quorum.NewRoster(config); err != nil {
		t.Fatal(err)
	}
	s.put("roster.json", s.roster.Data())
	s.request("factory.csr", csr.Template{Subject: pkix.Name{CommonName: "Demo Factory CA"}})
	s.request("station-1.csr", csr.Template{Subject: pkix.Name{CommonName: "station-1"}})
	s.request("operator-1.csr", csr.Template{Subject: pkix.Name{CommonName: "operator-1"}})
	s.request("hanaperd.csr", csr.Template{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	s.request("gateway.csr", csr.Template{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	for _, role := range []string{"trust-snapshot", "trust-timestamp", "trust-crl"} {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		s.public(role+".pem", key.Public())
	}
	for _, role := range []string{"image-snapshot", "image-timestamp", "director-snapshot", "director-timestamp"} {
		pub, _, _ := ed25519.GenerateKey(rand.Reader)
		s.public(role+".pem", pub)
	}
	return s
}

func (s *stage) put(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) request(name string, t csr.Template) {
	s.t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := csr.Create(rand.Reader, key, t)
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(name, csr.PEM(der))
}

func (s *stage) public(name string, pub crypto.PublicKey) {
	s.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(name, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// fill fills in a script's places.
func (s *stage) fill(text string) []byte {
	s.t.Helper()
	t, err := template.New("script").Funcs(template.FuncMap{
		"file": func(name string) (string, error) {
			data, err := os.ReadFile(filepath.Join(s.dir, name))
			return fmt.Sprintf("{file: %s, sha256: %s}", name, hexSHA256(data)), err
		},
		"checkpoint": func(name string) (string, error) {
			data, err := os.ReadFile(filepath.Join(s.dir, name, checkpointFile))
			return hexSHA256(data), err
		},
		"token": func(name string) string {
			b := s.boards[name]
			return hsm.URI{Token: b.Label, Serial: b.Serial}.String()
		},
	}).Parse(text)
	if err != nil {
		s.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		s.t.Fatal(err)
	}
	return b.Bytes()
}

// script writes a filled script and loads it.
func (s *stage) script(text string) (*Script, error) {
	s.t.Helper()
	s.put("script.yaml", s.fill(text))
	return LoadScript(filepath.Join(s.dir, "script.yaml"))
}

func (s *stage) full() string {
	s.t.Helper()
	data, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

func (s *stage) plan(text string) *Plan {
	s.t.Helper()
	script, err := s.script(text)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := script.Validate(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// check is what is said against a script before a token is touched; nil where nothing is.
func (s *stage) check(text string) error {
	s.t.Helper()
	s.put("script.yaml", s.fill(text))
	return checked(filepath.Join(s.dir, "script.yaml"))
}

func checked(file string) error {
	script, err := LoadScript(file)
	if err == nil {
		_, err = script.Validate(context.Background())
	}
	return err
}

// slip is a change of a script, and what must be said against the script that has it.
type slip struct{ name, old, new, want string }

// slips has each of them refused before a token is touched.
func (s *stage) slips(text string, list []slip) {
	t := s.t.(*testing.T)
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			if !strings.Contains(text, c.old) {
				t.Fatalf("the script has no %q", c.old)
			}
			if err := s.check(strings.Replace(text, c.old, c.new, 1)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	s.t = t
}

// verify verifies the folder of a ceremony under the roster's digest.
func (s *stage) verify(out string) (*Report, error) {
	anchor := s.roster.Digest()
	return Verify(context.Background(), os.DirFS(out), Anchors{Roster: &anchor})
}

// approvedRoster is the approval of the roster next by the officer of another one who holds a key.
func approvedRoster(t testing.TB, next, officers *quorum.Roster, key crypto.Signer) []byte {
	t.Helper()
	signer, _, err := officers.Signer(key)
	if err != nil {
		t.Fatal(err)
	}
	env, err := quorum.ApproveRoster(next, signer)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func (s *stage) open(ctx context.Context, name string, uri hsm.URI, _ hsm.PINSource) (hsm.Token, error) {
	b := s.boards[name]
	t, err := pkcs11.Open(ctx, pkcs11.Config{Module: b.Module, URI: uri, PIN: hsm.PINFile(b.PINFile)})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// approvals are those of the first n officers.
func (s *stage) approvals(script *Script, n int) [][]byte {
	s.t.Helper()
	nonce, err := quorum.NewNonce(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.approveAs(script, nonce, n)
}

func (s *stage) approveAs(script *Script, nonce string, n int) [][]byte {
	s.t.Helper()
	st, err := script.Statement(s.tool.SHA256, nonce, s.now.Add(time.Hour))
	if err != nil {
		s.t.Fatal(err)
	}
	var list [][]byte
	for _, k := range s.officers[:n] {
		env, err := quorum.Approve(st, k)
		if err != nil {
			s.t.Fatal(err)
		}
		list = append(list, env)
	}
	return list
}

// config has a clock that stands still: on a busy machine a run takes seconds, and what comes after it would be asserted for a
// time before its end.
func (s *stage) config(p *Plan) RunConfig {
	return RunConfig{Plan: p, Out: filepath.Join(s.dir, "out"), Asserted: s.now, Officers: s.officers[:2],
		Approvals: s.approvals(p.script, 2), Open: s.open, Tool: s.tool, Anchor: s.anchor(), Elapsed: func() time.Duration { return 0 }}
}

// anchor is what the stage's machine remembers.
func (s *stage) anchor() Anchor { return Anchor{State: machine.At(filepath.Join(s.dir, "state"))} }

// unfinished completes c by what its folder holds.
func unfinished(c *RunConfig) error {
	st, err := Unfinished(context.Background(), c.Out, c.Anchor)
	if err == nil {
		c.Plan, c.Approvals = st.Plan, st.Approvals
	}
	return err
}

// objects counts the private keys in all tokens.
func (s *stage) objects() int {
	s.t.Helper()
	n := 0
	for name, b := range s.boards {
		t, err := s.open(context.Background(), name, hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		keys, err := t.Keys(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		n += len(keys)
		_ = t.Close()
	}
	return n
}

var operatorURIs = []*url.URL{{Scheme: "urn", Opaque: "hanaper:operator:eve"}}

// breakRequest changes a request's signature.
func breakRequest(t testing.TB, data []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("no request to break")
		return nil
	}
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}
