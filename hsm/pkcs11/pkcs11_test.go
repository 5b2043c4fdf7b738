package pkcs11_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	keys "github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) { peertest.Main(cardtest.Main{Tests: m}) }

func uri(t testing.TB, s string) hsm.URI {
	t.Helper()
	u, err := hsm.ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

var boards atomic.Int32

// board makes a token named after the test.
func board(t testing.TB) softhsm.Board {
	t.Helper()
	label := strings.NewReplacer("Test", "", "Benchmark", "", "/", "-", "#", "", "_", "").Replace(t.Name())
	b, err := softhsm.ForTest(t).Create(fmt.Sprintf("%s-%d", label[:min(24, len(label))], boards.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, b softhsm.Board) *pkcs11.Token {
	t.Helper()
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, b.URI)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}

// tool runs a program that judges us, in the store's environment.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install the packages of scripts/packages-test.txt", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), softhsm.ForTest(t).Env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func generate(t testing.TB, token *pkcs11.Token, label string, a hsm.Algorithm) hsm.Key {
	t.Helper()
	k, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: label, Algorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type mode struct {
	name string
	opts crypto.SignerOpts
	args []string // openssl dgst's or pkeyutl's
}

func modes(a hsm.Algorithm) []mode {
	switch a {
	case hsm.P256, hsm.P384:
		return []mode{{"sha256", crypto.SHA256, nil}, {"sha384", crypto.SHA384, nil}, {"sha512", crypto.SHA512, nil}}
	case hsm.Ed25519:
		return []mode{{"ed25519", crypto.Hash(0), nil}}
	}
	pss := func(h crypto.Hash, n int) crypto.SignerOpts { return &rsa.PSSOptions{Hash: h, SaltLength: n} }
	return []mode{
		{"pkcs1-sha256", crypto.SHA256, nil}, {"pkcs1-sha384", crypto.SHA384, nil}, {"pkcs1-sha512", crypto.SHA512, nil},
		{"pss-sha256", pss(crypto.SHA256, rsa.PSSSaltLengthEqualsHash), []string{"rsa_padding_mode:pss", "rsa_pss_saltlen:32"}},
		{"pss-sha384", pss(crypto.SHA384, 48), []string{"rsa_padding_mode:pss", "rsa_pss_saltlen:48"}},
		{"pss-sha512", pss(crypto.SHA512, rsa.PSSSaltLengthEqualsHash), []string{"rsa_padding_mode:pss", "rsa_pss_saltlen:64"}},
		{"pss-auto", pss(crypto.SHA256, rsa.PSSSaltLengthAuto), []string{"rsa_padding_mode:pss", "rsa_pss_saltlen:max"}},
	}
}

func digest(opts crypto.SignerOpts, message []byte) []byte {
	if opts.HashFunc() == 0 {
		return message
	}
	h := opts.HashFunc().New()
	h.Write(message)
	return h.Sum(nil)
}

// opensslVerify judges a signature.
func opensslVerify(t *testing.T, pub crypto.PublicKey, m mode, message, sig []byte) {
	t.Helper()
	dir := t.TempDir()
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	in, sigFile := file("in", message), file("sig", sig)
	args := []string{"pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", in, "-sigfile", sigFile}
	if h := m.opts.HashFunc(); h != 0 {
		args = append(args, "-digest", strings.ToLower(strings.ReplaceAll(h.String(), "-", "")))
	}
	for _, a := range m.args {
		args = append(args, "-pkeyopt", a)
	}
	if out := tool(t, "openssl", args...); !strings.Contains(out, "Verified Successfully") {
		t.Errorf("openssl: %s", out)
	}
}

func TestGenerateAndSign(t *testing.T) {
	b := board(t)
	token := open(t, b)
	for _, a := range hsm.Algorithms() {
		t.Run(string(a), func(t *testing.T) {
			if testing.Short() && a == hsm.RSA4096 {
				t.Skip("slow")
			}
			label := "key-" + string(a)
			k := generate(t, token, label, a)
			if err := k.Attributes().CheckFresh(hsm.Sealed); err != nil {
				t.Error(err)
			}
			spki, _ := x509.MarshalPKIXPublicKey(k.Public())
			if sum := sha256.Sum256(spki); !bytes.Equal(k.Attributes().ID, sum[:20]) {
				t.Errorf("id %x, want %x", k.Attributes().ID, sum[:20])
			}
			message := []byte("the letters patent lay in a hanaper")
			for _, m := range modes(a) {
				sig, err := k.Sign(nil, digest(m.opts, message), m.opts)
				if err != nil {
					t.Fatalf("%s: %v", m.name, err)
				}
				opensslVerify(t, k.Public(), m, message, sig)
			}
			// Found again by every name.
			for _, q := range []hsm.Query{{Label: label}, {ID: k.Attributes().ID}, {Label: label, ID: k.Attributes().ID}} {
				again, err := token.Key(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				if !again.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) || again.Attributes().Algorithm != a {
					t.Errorf("%v gives another key", q)
				}
			}
			// pkcs11-tool's word, not ours.
			out := tool(t, "pkcs11-tool", "--module", b.Module, "--token-label", b.Label, "--login", "--pin", string(b.PIN), "-O", "--type", "privkey", "--label", label)
			for _, want := range []string{"sensitive", "always sensitive", "never extractable", "local"} {
				if !strings.Contains(out, want) {
					t.Errorf("pkcs11-tool does not say %q:\n%s", want, out)
				}
			}
			for _, never := range []string{"decrypt", "unwrap", "derive", ", extractable"} {
				if strings.Contains(out, never) {
					t.Errorf("pkcs11-tool says %q:\n%s", never, out)
				}
			}
		})
	}
	keys, err := token.Keys(t.Context())
	if err != nil || len(keys) < 5 {
		t.Errorf("Keys: %d keys, %v", len(keys), err)
	}
}

func TestSignRefusals(t *testing.T) {
	token := open(t, board(t))
	ec, rs, ed := generate(t, token, "ec", hsm.P256), generate(t, token, "rsa", hsm.RSA2048), generate(t, token, "ed", hsm.Ed25519)
	sum := sha256.Sum256(nil)
	for name, c := range map[string]struct {
		key    hsm.Key
		digest []byte
		opts   crypto.SignerOpts
	}{
		"short digest":     {ec, sum[:31], crypto.SHA256},
		"other hash":       {ec, sum[:], crypto.SHA384},
		"no hash":          {ec, sum[:], crypto.Hash(0)},
		"nil opts":         {ec, sum[:], nil},
		"SHA-1":            {rs, sum[:20], crypto.SHA1},
		"unknown hash":     {rs, sum[:], crypto.Hash(99)},
		"PSS without hash": {rs, sum[:], &rsa.PSSOptions{}},
		"PSS salt too big": {rs, sum[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 300}},
		"PSS salt below 0": {rs, sum[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: -7}},
		"Ed25519 prehash":  {ed, make([]byte, 64), crypto.SHA512},
		"Ed25519 context":  {ed, sum[:], &ed25519.Options{Context: "x"}},
	} {
		if sig, err := c.key.Sign(nil, c.digest, c.opts); err == nil || sig != nil {
			t.Errorf("%s: signed", name)
		} else if advice.KindOf(err) != advice.Usage || advice.Hint(err) == "" || !strings.Contains(err.Error(), token.Info().Serial) {
			t.Errorf("%s: %v (hint %q)", name, err, advice.Hint(err))
		}
	}
	// A digest longer than the order is cut the same way as everybody cuts it.
	long := sha512.Sum512([]byte("long"))
	sig, err := ec.Sign(nil, long[:], crypto.SHA512)
	if err != nil || !ecdsa.VerifyASN1(ec.Public().(*ecdsa.PublicKey), long[:], sig) {
		t.Errorf("SHA-512 with P-256: %v", err)
	}
}

func TestGenerateRefusals(t *testing.T) {
	b := board(t)
	token := open(t, b)
	first := generate(t, token, "first", hsm.P256)
	count := func() int {
		keys, err := token.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	for name, spec := range map[string]hsm.GenerateSpec{
		"label exists":    {Label: "first", Algorithm: hsm.P384},
		"id exists":       {Label: "second", ID: first.Attributes().ID, Algorithm: hsm.P256},
		"no label":        {Algorithm: hsm.P256},
		"no algorithm":    {Label: "x"},
		"other algorithm": {Label: "x", Algorithm: "P-521"},
		"other class":     {Label: "x", Algorithm: hsm.P256, Class: "open"},
		"restored":        {Label: "x", Algorithm: hsm.P256, Class: hsm.Restored},
		"Ed25519 backup":  {Label: "x", Algorithm: hsm.Ed25519, Class: hsm.Backup},
		"NUL in label":    {Label: "x\x00y", Algorithm: hsm.P256},
	} {
		k, err := token.Generate(t.Context(), spec)
		if err == nil || k != nil {
			t.Errorf("%s: generated", name)
			continue
		}
		if !strings.Contains(err.Error(), b.Label) || !strings.Contains(err.Error(), b.Serial) {
			t.Errorf("%s: error does not name the token: %v", name, err)
		}
		if n := count(); n != 1 {
			t.Fatalf("%s: %d keys in the token", name, n)
		}
	}
	if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "first", Algorithm: hsm.P256}); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("existing label: %v", err)
	}
}

func TestBackupClass(t *testing.T) {
	token := open(t, board(t))
	for _, a := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048} {
		k, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "b-" + string(a), ID: []byte{1, byte(len(a)), a[2]}, Algorithm: a, Class: hsm.Backup})
		if err != nil {
			t.Fatal(err)
		}
		at := k.Attributes()
		if !at.Extractable || !at.WrapWithTrusted || at.NeverExtractable || !at.Sensitive {
			t.Errorf("%s: %+v", a, at)
		}
		if err := at.CheckFresh(hsm.Sealed); !errors.Is(err, hsm.ErrAttributes) {
			t.Errorf("a backup key passes as sealed: %v", err)
		}
	}
}

func TestOpenRefusals(t *testing.T) {
	b := board(t)
	other := board(t)
	base := uri(t, b.URI)
	with := func(change func(u *hsm.URI)) pkcs11.Config {
		u := base
		change(&u)
		return pkcs11.Config{URI: u}
	}
	for name, c := range map[string]struct {
		config pkcs11.Config
		is     error
		says   []string
	}{
		"other label":                     {with(func(u *hsm.URI) { u.Token = "nowhere" }), hsm.ErrNoToken, []string{"nowhere", b.Label, other.Serial}},
		"other serial":                    {with(func(u *hsm.URI) { u.Serial = "0123" }), hsm.ErrNoToken, []string{"0123", b.Serial}},
		"label of one, serial of another": {with(func(u *hsm.URI) { u.Serial = other.Serial }), hsm.ErrNoToken, nil},
		"no name":                         {with(func(u *hsm.URI) { u.Token, u.Serial = "", "" }), nil, []string{"names no token"}},
		"no library":                      {with(func(u *hsm.URI) { u.ModulePath = "" }), nil, []string{"library"}},
		"missing library":                 {with(func(u *hsm.URI) { u.ModulePath = "/nonexistent/lib.so" }), nil, []string{"/nonexistent/lib.so"}},
		"not a library":                   {with(func(u *hsm.URI) { u.ModulePath = "/etc/passwd" }), nil, []string{"cannot be loaded"}},
		"no PIN":                          {with(func(u *hsm.URI) { u.PINSource = "" }), nil, []string{b.Label, b.Serial, "no PIN"}},
		"no PIN file":                     {with(func(u *hsm.URI) { u.PINSource = "/nonexistent/pin" }), os.ErrNotExist, []string{b.Label, "/nonexistent/pin"}},
	} {
		token, err := pkcs11.Open(t.Context(), c.config)
		if err == nil {
			token.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", name, err, c.is)
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v does not say %q", name, err, s)
			}
		}
		if advice.Hint(err) == "" || strings.Contains(err.Error(), string(b.PIN)) {
			t.Errorf("%s: hint %q for %v", name, advice.Hint(err), err)
		}
	}
	if pkcs11.InUse(b.Module) {
		t.Error("a refused Open left the library in use")
	}
}

func TestWrongPIN(t *testing.T) {
	b := board(t)
	asked := 0
	wrong := func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) {
		asked++
		return []byte("wrong-pin"), nil
	}
	u := uri(t, b.URI)
	u.PINSource = ""
	_, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, PIN: wrong})
	if !errors.Is(err, hsm.ErrPIN) || asked != 1 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	for _, s := range []string{b.Label, b.Serial, "tries are low"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v does not say %q", err, s)
		}
	}
	if strings.Contains(err.Error(), "wrong-pin") {
		t.Error("the error repeats the PIN")
	}
	// The next opening is told that tries are low, and a right PIN clears it.
	var low bool
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, PIN: func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) {
		low = info.PINLow
		return bytes.Clone(b.PIN), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	if !low || token.Info().PINLow {
		t.Errorf("low %t before and %t after", low, token.Info().PINLow)
	}
	// While it is open a second opening with a wrong PIN is refused without spending a try.
	if _, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, PIN: wrong}); !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), "no try was spent") {
		t.Errorf("second login: %v", err)
	}
	if infos, err := pkcs11.List(b.Module); err != nil {
		t.Error(err)
	} else {
		for _, i := range infos {
			if i.Serial == b.Serial && i.PINLow {
				t.Error("a try was spent")
			}
		}
	}
	second, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, b.URI)})
	if err != nil {
		t.Fatal(err)
	}
	k := generate(t, second, "k", hsm.P256)
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Errorf("closing one Token logged the other out: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOpenKey(t *testing.T) {
	b := board(t)
	token := open(t, b)
	k := generate(t, token, "a key; with = odd %name", hsm.P256)
	u := k.URI()
	u.PINSource = b.PINFile
	again, closer, err := keys.Key(t.Context(), u, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if !again.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
		t.Error("another key")
	}
	for _, bad := range []string{b.URI, "pkcs11:", strings.Replace(u.String(), "object=a", "object=b", 1)} {
		if _, _, err := keys.Key(t.Context(), uri(t, bad), nil); err == nil {
			t.Errorf("%s: opened", bad)
		}
	}
}

func TestDestroy(t *testing.T) {
	token := open(t, board(t))
	generate(t, token, "keep", hsm.P256)
	k := generate(t, token, "go", hsm.P256)
	if err := token.Destroy(t.Context(), hsm.Query{Label: "go"}); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Key(t.Context(), hsm.Query{Label: "go"}); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("after Destroy: %v", err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("a destroyed key signs: %v", err)
	}
	if err := token.Destroy(t.Context(), hsm.Query{Label: "go"}); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("twice: %v", err)
	}
	if err := token.Destroy(t.Context(), hsm.Query{}); err == nil {
		t.Error("an empty query destroyed something")
	}
	if _, err := token.Key(t.Context(), hsm.Query{Label: "keep"}); err != nil {
		t.Error(err)
	}
}

func TestPoolIsContextAware(t *testing.T) {
	b := board(t)
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, b.URI), Sessions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	k := generate(t, token, "k", hsm.RSA2048).(*pkcs11.Key)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	failed := make(chan error, 64)
	for range cap(failed) {
		go func() {
			var err error
			for err == nil {
				_, err = k.SignContext(ctx, make([]byte, 32), crypto.SHA256)
			}
			failed <- err
		}()
	}
	for range cap(failed) {
		select {
		case err := <-failed:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a call outlived its context")
		}
	}
}
