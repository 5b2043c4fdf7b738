package apart

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

// TestToken: what a token does inside this process, it does apart, to the attributes and the errors.
func TestToken(t *testing.T) {
	b := newBoard(t)
	token := mustOpen(t, plain(b))
	inside, err := pkcs11.Open(t.Context(), pkcs11.Config{Module: b.Module, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINBytes(b.PIN)})
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	if token.Info() != inside.Info() {
		t.Errorf("info %+v, inside %+v", token.Info(), inside.Info())
	}
	message := []byte("a message")
	for _, a := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048, hsm.Ed25519} {
		k := mustGenerate(t, token, string(a), a)
		found, err := token.Key(t.Context(), hsm.Query{Label: string(a)})
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := pkcs11.Open(t.Context(), pkcs11.Config{Module: b.Module, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINBytes(b.PIN)})
		if err != nil {
			t.Fatal(err)
		}
		// Another process made it, so a library that was started before may not see it: hence one that is opened now.
		if err := theirs.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		same, err := theirs.Key(t.Context(), hsm.Query{Label: string(a)})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []hsm.Key{k, found} {
			if !equal(k.Public(), same.Public()) || k.URI().String() != same.URI().String() || k.Token() != same.Token() {
				t.Errorf("%s: %v, inside %v", a, k.URI(), same.URI())
			}
			if have, want := k.Attributes(), same.Attributes(); !bytes.Equal(have.ID, want.ID) || have.Label != want.Label || have.Algorithm != a || have.CheckFresh(hsm.Sealed) != nil {
				t.Errorf("%s: %+v, inside %+v", a, have, want)
			}
		}
		theirs.Close()
		schemes := []crypto.SignerOpts{signature.Scheme(k.Public())}
		if a == hsm.RSA2048 {
			schemes = append(schemes, crypto.SHA256, crypto.SHA512, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA384}, &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256})
		}
		for _, opts := range schemes {
			for range 3 {
				sig, err := k.Sign(rand.Reader, signature.Digest(message, opts), opts)
				if err != nil || !signature.VerifyMessage(k.Public(), message, opts, sig) {
					t.Errorf("%s %v: %v", a, opts, err)
				}
			}
		}
		if a == hsm.P256 {
			if _, err := k.Sign(rand.Reader, message, nil); err == nil || advice.KindOf(err) != advice.Usage {
				t.Errorf("no hash named: %v", err)
			}
		}
	}
	keys, err := token.Keys(t.Context())
	if err != nil || len(keys) != 4 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for _, k := range keys {
		opts := signature.Scheme(k.Public())
		if _, err := k.SignContext(t.Context(), signature.Digest(message, opts), opts); err != nil {
			t.Error(err)
		}
	}
	cert := certificate(t)
	if err := token.PutCertificate(t.Context(), "c", []byte{1, 2}, cert); err != nil {
		t.Fatal(err)
	}
	if got, err := token.Certificate(t.Context(), []byte{1, 2}); err != nil || !got.Equal(cert) {
		t.Errorf("%v, %v", got, err)
	}
	_, noKey := token.Key(t.Context(), hsm.Query{Label: "nobody"})
	_, noCert := token.Certificate(t.Context(), []byte{9})
	_, exists := token.Generate(t.Context(), hsm.GenerateSpec{Label: "P-256", Algorithm: hsm.P256})
	_, noName := token.Key(t.Context(), hsm.Query{})
	for name, c := range map[string]struct {
		err, is error
		kind    advice.Kind
	}{
		"no key": {noKey, hsm.ErrNoKey, advice.Failed}, "no certificate": {noCert, hsm.ErrNoKey, advice.Failed},
		"exists": {exists, hsm.ErrExists, advice.KindOf(exists)}, "no name": {noName, noName, advice.Usage},
	} {
		if c.err == nil || !errors.Is(c.err, c.is) || advice.KindOf(c.err) != c.kind || advice.Hint(c.err) == "" {
			t.Errorf("%s: %v (hint %q)", name, c.err, advice.Hint(c.err))
		}
	}
	if err := token.Destroy(t.Context(), hsm.Query{Label: "P-384"}); err != nil {
		t.Error(err)
	}
	if keys, err = token.Keys(t.Context()); err != nil || len(keys) != 3 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	pid := token.pid()
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	gone(t, pid)
	if err := sign(t.Context(), keys[0]); !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if token.Restarts() != 0 {
		t.Errorf("%d restarts", token.Restarts())
	}
}

func equal(a, b crypto.PublicKey) bool {
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}

func certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestOpenRefusals: a token that cannot be opened is told as inside, once, and no process is left.
func TestOpenRefusals(t *testing.T) {
	b := newBoard(t)
	wrong := plain(b)
	wrong.PIN = hsm.PINBytes([]byte("999999"))
	absent := plain(b)
	absent.URI = hsm.URI{Token: "nobody"}
	missing := plain(b)
	missing.Module = "/nowhere/lib.so"
	unnamed := plain(b)
	unnamed.URI = hsm.URI{}
	noPIN := plain(b)
	noPIN.PIN = nil
	gaveUp := plain(b)
	gaveUp.PIN = func(context.Context, hsm.TokenInfo) ([]byte, error) { return nil, errors.New("nobody there") }
	for name, c := range map[string]struct {
		config Config
		is     error
		says   string
	}{
		"wrong PIN": {wrong, hsm.ErrPIN, "not tried again"}, "no such token": {absent, hsm.ErrNoToken, "present:"}, "no library": {missing, nil, "/nowhere/lib.so"},
		"no name": {unnamed, nil, "names no token"}, "no PIN": {noPIN, nil, "there is no PIN"}, "no answer": {gaveUp, nil, "nobody there"},
	} {
		_, err := Open(t.Context(), c.config)
		if err == nil {
			t.Fatalf("%s: opened", name)
		}
		if c.is != nil && !errors.Is(err, c.is) || !bytes.Contains([]byte(err.Error()+advice.Hint(err)), []byte(c.says)) {
			t.Errorf("%s: %v (hint %q)", name, err, advice.Hint(err))
		}
	}
	if children := childrenOf(t, os.Getpid()); len(children) > 0 {
		t.Errorf("processes are left: %v", children)
	}
	// The wrong PIN was tried once: the right one still works.
	mustOpen(t, plain(b))
}

// TestWords: every error that callers match crosses the socket.
func TestWords(t *testing.T) {
	source, err := os.ReadFile("../../errors.go")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^\s*(Err\w+) = errors.New\("(.+)"\)`).FindAllSubmatch(source, -1)
	if len(want) < 10 {
		t.Fatalf("%d errors found in hsm/errors.go", len(want))
	}
	have := map[string]bool{}
	for _, w := range words {
		have[w.Error()] = true
		crossed, ok := failed(failure(advice.New(advice.Refused, "do this", "token: %w", w)))
		if !ok || !errors.Is(crossed, w) || advice.KindOf(crossed) != advice.Refused || advice.Hint(crossed) != "do this" || crossed.Error() != "token: "+w.Error() {
			t.Errorf("%v became %v", w, crossed)
		}
	}
	for _, m := range want {
		if !have[string(m[2])] {
			t.Errorf("hsm.%s does not cross: add it to words", m[1])
		}
	}
}

// TestContext: a call returns when its context ends, and the child is not ended for that.
func TestContext(t *testing.T) {
	token := mustOpen(t, plain(newBoard(t)))
	k := mustGenerate(t, token, "k", hsm.P256)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sign(ctx, k); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	expired, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if err := sign(expired, k); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	mustSign(t, k)
	if token.Restarts() != 0 {
		t.Error("started anew")
	}
	digest := sha256.Sum256(nil)
	if _, err := k.SignContext(t.Context(), digest[:5], crypto.SHA256); err == nil {
		t.Error("a short digest was signed")
	}
}
