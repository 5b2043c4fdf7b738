package kms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) { softhsm.Main(cardtest.Main{Tests: m}) }

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func parse(t testing.TB, text string) hsm.URI {
	t.Helper()
	return must[hsm.URI](t)(hsm.ParseURI(text))
}

// store is a store that runs here, as the suite meets it.
type store struct {
	// open opens it anew, with no key named in its URI.
	open func(t *testing.T) *Token
	// label makes a label that the store takes.
	label func(name string) string
	// makes has what it generates, put what it is given otherwise (nil where nothing is).
	makes []hsm.Algorithm
	put   func(t *testing.T, label string) hsm.Algorithm
	// lists and destroys say what it can do besides.
	lists, destroys bool
}

func stores() map[string]func(t *testing.T) store {
	return map[string]func(*testing.T) store{"softkms": fileStore, "sshagentkms": agentStore, "tpmkms": tpmStore, "pkcs11 through crypto11": pkcs11Store}
}

// TestConformance: the same suite for every store that runs here. What a store cannot do is asserted too.
func TestConformance(t *testing.T) {
	for name, start := range stores() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			tok := s.open(t)
			for _, a := range s.makes {
				t.Run(string(a), func(t *testing.T) { generated(t, s, tok, a) })
			}
			t.Run("refusals", func(t *testing.T) { refusals(t, s, tok) })
			if s.put != nil {
				label := s.label("put")
				a := s.put(t, label)
				used(t, tok, label, a)
			}
			if err := tok.Close(); err != nil {
				t.Error(err)
			}
			if _, err := tok.Key(t.Context(), hsm.Query{Label: s.label("put")}); !errors.Is(err, hsm.ErrClosed) {
				t.Errorf("a closed store: %v", err)
			}
		})
	}
}

func generated(t *testing.T, s store, tok *Token, a hsm.Algorithm) {
	label := s.label("key-" + strings.ToLower(string(a)))
	if _, err := tok.Key(t.Context(), hsm.Query{Label: label}); !errors.Is(err, hsm.ErrNoKey) {
		t.Fatalf("before it was made: %v", err)
	}
	for _, c := range []hsm.Class{"", hsm.Sealed, hsm.Backup} {
		if _, err := tok.Generate(t.Context(), hsm.GenerateSpec{Label: label, Algorithm: a, Class: c}); !errors.Is(err, hsm.ErrAttributes) {
			t.Fatalf("class %q, which nobody could read back: %v", c, err)
		}
	}
	if _, err := tok.Key(t.Context(), hsm.Query{Label: label}); !errors.Is(err, hsm.ErrNoKey) {
		t.Fatalf("a refused generation left something: %v", err)
	}
	k := must[hsm.Key](t)(tok.Generate(t.Context(), hsm.GenerateSpec{Label: label, Algorithm: a, Class: hsm.Unread}))
	if _, err := tok.Generate(t.Context(), hsm.GenerateSpec{Label: label, Algorithm: a, Class: hsm.Unread}); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	again := used(t, tok, label, a)
	if !same(k.Public(), again.Public()) {
		t.Error("the key that was made is another one when it is opened again")
	}
	if !s.destroys {
		if err := tok.Destroy(t.Context(), hsm.Query{Label: label}); !errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("destroyed: %v", err)
		}
		return
	}
	if err := tok.Destroy(t.Context(), hsm.Query{Label: label}); err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Key(t.Context(), hsm.Query{Label: label}); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("destroyed, and still: %v", err)
	}
}

// used opens a key over a new connection and signs with it in every way that its kind knows.
func used(t *testing.T, tok *Token, label string, a hsm.Algorithm) hsm.Key {
	t.Helper()
	k := must[hsm.Key](t)(tok.Key(t.Context(), hsm.Query{Label: label}))
	if got := k.Attributes(); !got.Unread || got.Label != label || got.Algorithm != a || got.CheckFresh(hsm.Unread) != nil || got.CheckFresh(hsm.Sealed) == nil {
		t.Errorf("attributes %+v", got)
	}
	if k.Token().Name() == "" || !strings.HasPrefix(k.URI().String(), tok.address.scheme.name+":") {
		t.Errorf("%v in %v", k.URI(), k.Token())
	}
	message := []byte("to be signed")
	d256, d384 := sha256.Sum256(message), sha512.Sum384(message)
	type way struct {
		name   string
		digest []byte
		opts   crypto.SignerOpts
	}
	var ways []way
	switch k.Public().(type) {
	case *ecdsa.PublicKey:
		ways = []way{{"SHA-256", d256[:], crypto.SHA256}}
		if a == hsm.P384 {
			ways = []way{{"SHA-384", d384[:], crypto.SHA384}}
		}
	case ed25519.PublicKey:
		ways = []way{{"message", message, crypto.Hash(0)}}
	case *rsa.PublicKey:
		ways = []way{{"PKCS #1", d256[:], crypto.SHA256}, {"PSS", d256[:], signature.PSS256}}
	}
	for _, w := range ways {
		sig, err := k.SignContext(t.Context(), w.digest, w.opts)
		if err != nil || !signature.Verify(k.Public(), w.digest, w.opts, sig) {
			t.Errorf("%s: %v", w.name, err)
		}
	}
	if _, err := k.Sign(nil, []byte("short"), crypto.SHA512); err == nil {
		t.Error("a digest of five bytes was signed")
	}
	if _, err := k.Sign(nil, d256[:], nil); err == nil {
		t.Error("signed by no scheme")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.SignContext(ended, ways[0].digest, ways[0].opts); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that was over: %v", err)
	}
	many(t, k, ways[0].digest, ways[0].opts)
	return k
}

// many signs from several callers at once.
func many(t *testing.T, k hsm.Key, digest []byte, opts crypto.SignerOpts) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				if sig, err := k.Sign(nil, digest, opts); err != nil || !signature.Verify(k.Public(), digest, opts, sig) {
					t.Errorf("beside others: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func refusals(t *testing.T, s store, tok *Token) {
	absent := s.label("absent")
	_, err := tok.Key(t.Context(), hsm.Query{Label: absent})
	if !errors.Is(err, hsm.ErrNoKey) || !strings.Contains(err.Error(), "absent") || strings.Contains(err.Error(), "\n") {
		t.Errorf("an absent key: %v", err)
	}
	if err := tok.Destroy(t.Context(), hsm.Query{Label: absent}); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("an absent key destroyed: %v", err)
	}
	if _, err := tok.Key(t.Context(), hsm.Query{}); err == nil || !strings.Contains(err.Error(), "names no key") {
		t.Errorf("no key named: %v", err)
	}
	if _, err := tok.Key(t.Context(), hsm.Query{Label: absent, ID: []byte{1}}); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("by id: %v", err)
	}
	if err := tok.PutCertificate(t.Context(), absent, nil, nil); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("a certificate: %v", err)
	}
	if _, err := tok.Certificate(t.Context(), nil); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("a certificate: %v", err)
	}
	if _, err := tok.Generate(t.Context(), hsm.GenerateSpec{Label: absent, Algorithm: hsm.P256, Class: hsm.Unread, Use: hsm.Agreement}); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("a key that agrees: %v", err)
	}
	if len(s.makes) == 0 {
		if _, err := tok.Generate(t.Context(), hsm.GenerateSpec{Label: absent, Algorithm: hsm.P256, Class: hsm.Unread}); !errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("generated: %v", err)
		}
	}
	keys, err := tok.Keys(t.Context())
	switch {
	case s.lists && err != nil:
		t.Errorf("list: %v", err)
	case !s.lists && !errors.Is(err, hsm.ErrUnsupported):
		t.Errorf("list: %v, %v", keys, err)
	}
}

func fileStore(t *testing.T) store {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(secret, []byte("a pass phrase\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return store{
		open: func(t *testing.T) *Token {
			return must[*Token](t)(Open(t.Context(), Config{URI: hsm.URI{Scheme: "softkms", PINSource: secret}}))
		},
		label: func(n string) string { return filepath.Join(dir, n+".pem") },
		makes: []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048, hsm.Ed25519},
		put: func(t *testing.T, label string) hsm.Algorithm {
			run(t, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "file:"+secret, "-out", label)
			return hsm.P256
		},
	}
}

func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

// startAgent starts a real ssh-agent.
func startAgent(t testing.TB, socket string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	// The file is there before anybody listens on it.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return cmd
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens on %s: %v", socket, err)
		}
	}
}

func waitFor(t testing.TB, path string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s never came", path)
		}
	}
}

func addKey(t testing.TB, socket, comment, kind string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "id")
	run(t, "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", file)
	cmd := exec.Command("ssh-add", "-q", file)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v\n%s", err, out)
	}
}

func agentStore(t *testing.T) store {
	socket := filepath.Join(t.TempDir(), "agent")
	startAgent(t, socket)
	return store{
		open: func(t *testing.T) *Token {
			return must[*Token](t)(Open(t.Context(), Config{URI: hsm.URI{Scheme: "sshagentkms", Opaque: "socket=" + socket}}))
		},
		label: func(n string) string { return n + " of a test" },
		lists: true,
		put: func(t *testing.T, label string) hsm.Algorithm {
			addKey(t, socket, label, "ed25519")
			return hsm.Ed25519
		},
	}
}

// startTPM starts a TPM simulator that accepts one connection after another.
func startTPM(t testing.TB) string {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("", "tpm")) // a socket's path is short
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(t, socket)
	return socket
}

func tpmStore(t *testing.T) store {
	socket, dir := startTPM(t), t.TempDir()
	return store{
		open: func(t *testing.T) *Token {
			return must[*Token](t)(Open(t.Context(), Config{URI: hsm.URI{Scheme: "tpmkms", Opaque: "storage-directory=" + dir + ";device=" + socket}}))
		},
		label: func(n string) string { return n },
		makes: []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048}, lists: true, destroys: true,
	}
}

// pkcs11Store is a SoftHSM token through step's own PKCS#11 package: no scheme of this package's, for hsm/pkcs11 is better at it,
// but one more store of step's that judges the suite. It makes no keys: its CreateKey looks for the key first, and crypto11 1.6.0
// answers that with an error where step v0.84.1 expects none.
func pkcs11Store(t *testing.T) store {
	board := must[softhsm.Board](t)(softhsm.ForTest(t).Create("kms"))
	a := &Address{scheme: &scheme{name: "pkcs11", key: "object", names: simpleName, parallel: 4}, values: map[string]string{}}
	connect := func(ctx context.Context) (manager, error) {
		m, err := pkcs11.New(ctx, apiv1.Options{URI: "pkcs11:module-path=" + board.Module + ";token=" + board.Label, Pin: string(board.PIN)})
		if err != nil {
			return nil, err
		}
		return &p11Manager{stepManager{m, a, nil}}, nil
	}
	m := must[manager](t)(connect(t.Context()))
	if _, err := m.create("new", hsm.P256); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("step's PKCS#11 makes keys again (%v): let this test make its keys by it", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	return store{
		open: func(t *testing.T) *Token {
			tok := newToken(a, Config{})
			tok.connect = connect
			return tok
		},
		label: func(n string) string { return n },
		put: func(t *testing.T, label string) hsm.Algorithm {
			cmd := exec.Command("pkcs11-tool", "--module", board.Module, "--token-label", board.Label, "--login", "--pin", "env:PIN", "--keypairgen", "--key-type", "EC:prime256v1", "--label", label, "--id", "07")
			cmd.Env = append(os.Environ(), "PIN="+string(board.PIN))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("pkcs11-tool: %v\n%s", err, out)
			}
			return hsm.P256
		},
	}
}

// p11Manager names a key by id as well, which step's package wants where it makes one.
type p11Manager struct{ stepManager }

func (m *p11Manager) create(name string, a hsm.Algorithm) (string, error) {
	_, err := m.CreateKey(&apiv1.CreateKeyRequest{Name: "pkcs11:id=07;object=" + name, SignatureAlgorithm: algorithms[a].alg, Bits: algorithms[a].bits})
	return name, err
}

func (m *p11Manager) signer(name string) (crypto.Signer, error) {
	s, err := m.stepManager.signer(name)
	if err != nil && strings.Contains(err.Error(), "not found") {
		err = errors.Join(hsm.ErrNoKey, err)
	}
	return s, err
}
