package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

// TestParse: each attribute is one that the store has, stands once, and names no secret; what is read is written the same.
func TestParse(t *testing.T) {
	for _, good := range []string{
		"awskms:key-id=1234abcd-12ab-34cd-56ef-1234567890ab;region=eu-central-1", "awskms:key-id=alias/plant-7;credentials-file=/etc/hanaper/aws;profile=plant",
		"awskms:key-id=arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"azurekms:name=ca;vault=plant-7", "azurekms:name=ca;hsm=true;vault=plant-7;version=abc",
		"cloudkms:resource=projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1;credentials-file=/etc/g.json",
		"softkms:path=/etc/hanaper/ca.pem", "sshagentkms:comment=plant%207%20ca", "sshagentkms:comment=ca@plant;socket=/run/agent",
		"tpmkms:name=ca;device=/dev/tpmrm0;storage-directory=/var/lib/hanaper/tpm", "yubikey:slot-id=9c;serial=112233",
	} {
		a, err := Parse(parse(t, good))
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		if got := a.keyURI(a.name).String(); got != good {
			t.Errorf("%s is written as %s", good, got)
		}
	}
	for short, long := range map[string]string{"softkms:/a/b.pem": "softkms:path=/a/b.pem", "sshagentkms:me@here": "sshagentkms:comment=me@here",
		"cloudkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/2": "cloudkms:resource=projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/2"} {
		a, err := Parse(parse(t, short))
		if err != nil || a.keyURI(a.name).String() != long {
			t.Errorf("%s: %v, %v", short, a, err)
		}
	}
	for bad, says := range map[string]string{
		"awskms:key-id=alias/Plant":                                       "lower case",
		"awskms:key-id=a;region=x;region=y":                               "twice",
		"awskms:key-id=a;key-id=b":                                        "twice",
		"awskms:key-id=a;endpoint=http://x":                               "unknown attribute",
		"awskms:key-id=a;credentials-file=aws":                            "absolute",
		"awskms:key-id=":                                                  "empty",
		"awskms:key-id":                                                   "without a value",
		"azurekms:name=ca":                                                "vault= is missing",
		"azurekms:name=ca;vault=evil.example/":                            "without a domain",
		"azurekms:name=ca;vault=v;client-secret=hunter2":                  "unknown attribute",
		"azurekms:name=ca;vault=v;aad-endpoint=http://x":                  "unknown attribute",
		"azurekms:name=ca;vault=v;hsm=maybe":                              "true or false",
		"cloudkms:projects/p":                                             "not the name of a key",
		"softkms:ca.pem":                                                  "absolute",
		"softkms:/a?pin-prompt=x":                                         "unknown attribute",
		"tpmkms:name=ca":                                                  "storage-directory",
		"tpmkms:name=ca;storage-directory=/a;device=/dev/tpm0":            "resource manager",
		"tpmkms:name=ca;storage-directory=/a;attestation-ca-url=http://x": "unknown attribute",
		"tpmkms:name=../x;storage-directory=/a":                           "not the name of a key",
		"yubikey:slot-id=f9?pin-source=/p":                                "a slot",
		"sshagentkms:a?pin-source=/p":                                     "no PIN",
		"sshagentkms:a%0ab":                                               "control character",
		"capi:key=x":                                                      "this kind of machine",
		"mackms:label=x":                                                  "this kind of machine",
	} {
		_, err := Parse(parse(t, bad))
		if err == nil || !strings.Contains(err.Error()+advice.Hint(err), says) || advice.KindOf(err) != advice.Usage || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %q", bad, err, says)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"awskms:key-id=a;region=b", "softkms:/a", "tpmkms:name=a;storage-directory=/b", "sshagentkms:a%20b", "cloudkms:projects/p/locations/l/keyRings/r/cryptoKeys/k"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := hsm.ParseURI(s)
		if err != nil || u.Opaque == "" {
			return
		}
		a, err := Parse(u)
		if err != nil {
			return
		}
		text := a.text(a.name)
		u, err = hsm.ParseURI(text)
		if err != nil && strings.HasSuffix(text, ":") {
			return // no key and no attribute
		}
		if err != nil {
			t.Fatalf("%q, written as %q, is refused: %v", s, text, err)
		}
		again, err := Parse(u)
		if err != nil || again.text(again.name) != text {
			t.Fatalf("%q is written as %q, and that as %v, %v", s, text, again, err)
		}
	})
}

// faulty is a store that does what a test plans.
type faulty struct {
	key  crypto.Signer
	sign func() ([]byte, error)
	gone atomic.Bool
}

func (f *faulty) signer(string) (crypto.Signer, error)         { return f, nil }
func (f *faulty) create(string, hsm.Algorithm) (string, error) { return "", errors.New("no") }
func (f *faulty) list() ([]string, error)                      { return nil, nil }
func (f *faulty) destroy(string) error                         { return nil }
func (f *faulty) Close() error                                 { f.gone.Store(true); return nil }
func (f *faulty) Public() crypto.PublicKey                     { return f.key.Public() }
func (f *faulty) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if f.sign != nil {
		return f.sign()
	}
	return f.key.Sign(rand.Reader, digest, opts)
}

func faultyToken(parallel int, c Config, next func() (manager, error)) *Token {
	tok := newToken(&Address{scheme: &scheme{name: "test", key: "name", names: simpleName, parallel: parallel}, name: "k", values: map[string]string{}}, c)
	tok.connect = func(context.Context) (manager, error) { return next() }
	return tok
}

func newKey(t *testing.T) crypto.Signer {
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

var digest = sha256.Sum256([]byte("x"))

// TestHang: a store that hangs holds a caller no longer than its context, or the store's own limit, and Close not at all; it holds
// no more than its slots.
func TestHang(t *testing.T) {
	var waiting atomic.Int32
	release := make(chan struct{})
	defer close(release)
	f := &faulty{key: newKey(t), sign: func() ([]byte, error) { waiting.Add(1); <-release; return nil, errors.New("late") }}
	tok := faultyToken(2, Config{Timeout: 100 * time.Millisecond}, func() (manager, error) { return f, nil })
	k := must[hsm.Key](t)(tok.Key(t.Context(), hsm.Query{}))
	begun := time.Now()
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrGone) || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("without a deadline: %v", err)
	}
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := k.SignContext(ctx, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrGone) {
			t.Errorf("with a deadline: %v", err)
		}
		cancel()
	}
	if d := time.Since(begun); d > 20*time.Second {
		t.Errorf("it took %v", d)
	}
	if n := waiting.Load(); n != 2 {
		t.Errorf("%d calls hang in the store, want the 2 that it takes", n)
	}
	begun = time.Now()
	if err := tok.Close(); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("close: %v after %v", err, time.Since(begun))
	}
	hung := faultyToken(1, Config{Timeout: 50 * time.Millisecond}, func() (manager, error) { <-release; return nil, errors.New("late") })
	if _, err := hung.Key(t.Context(), hsm.Query{}); !errors.Is(err, hsm.ErrGone) {
		t.Errorf("opening hangs: %v", err)
	}
	begun = time.Now()
	if err := hung.Close(); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("close while opening: %v after %v", err, time.Since(begun))
	}
}

// TestWrongAnswers: a signature that the key does not verify, a key that changes and a PIN that is refused.
func TestWrongAnswers(t *testing.T) {
	mine, other := newKey(t), newKey(t)
	bad := &faulty{key: mine, sign: func() ([]byte, error) { return other.Sign(rand.Reader, digest[:], crypto.SHA256) }}
	tok := faultyToken(1, Config{}, func() (manager, error) { return bad, nil })
	k := must[hsm.Key](t)(tok.Key(t.Context(), hsm.Query{}))
	if sig, err := k.Sign(nil, digest[:], crypto.SHA256); sig != nil || !errors.Is(err, signature.ErrWrong) {
		t.Errorf("another key's signature: %x, %v", sig, err)
	}

	opened := 0
	breaks := &faulty{key: mine, sign: func() ([]byte, error) { return nil, io.EOF }}
	tok = faultyToken(1, Config{}, func() (manager, error) {
		if opened++; opened == 1 {
			return breaks, nil
		}
		return &faulty{key: other}, nil
	})
	k = must[hsm.Key](t)(tok.Key(t.Context(), hsm.Query{}))
	if sig, err := k.Sign(nil, digest[:], crypto.SHA256); sig != nil || err == nil || !strings.Contains(err.Error(), "another public key") {
		t.Errorf("after the store came back with another key: %x, %v", sig, err)
	}

	tries := 0
	tok = faultyToken(1, Config{}, func() (manager, error) { tries++; return nil, hsm.ErrPIN })
	for range 3 {
		if _, err := tok.Key(t.Context(), hsm.Query{}); !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("a wrong PIN: %v", err)
		}
	}
	if tries != 1 {
		t.Errorf("a wrong PIN was tried %d times", tries)
	}

	foreign := faultyToken(1, Config{}, func() (manager, error) { return nil, errors.New("see\nhanaper: all is well\x1b[2J") })
	if _, err := foreign.Key(t.Context(), hsm.Query{}); err == nil || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("a store's own words: %v", err)
	}
}

// TestAgentRestart: an agent that is started anew signs on, and one that is away is named with what to do.
func TestAgentRestart(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent")
	first := startAgent(t, socket)
	addKey(t, socket, "ca", "ed25519")
	addKey(t, socket, "twice", "ed25519")
	addKey(t, socket, "twice", "ed25519")
	addKey(t, socket, "ec", "ecdsa")
	tok := must[*Token](t)(Open(t.Context(), Config{URI: hsm.URI{Scheme: "sshagentkms", Opaque: "socket=" + socket}}))
	defer tok.Close()
	k := must[hsm.Key](t)(tok.Key(t.Context(), hsm.Query{Label: "ca"}))
	if _, ok := k.Public().(ed25519.PublicKey); !ok {
		t.Errorf("public key of type %T", k.Public())
	}
	if _, err := tok.Key(t.Context(), hsm.Query{Label: "twice"}); !errors.Is(err, hsm.ErrAmbiguous) {
		t.Errorf("two keys of one name: %v", err)
	}
	if _, err := tok.Key(t.Context(), hsm.Query{Label: "ec"}); !errors.Is(err, hsm.ErrUnsupported) || !strings.Contains(err.Error(), "Ed25519") {
		t.Errorf("an ECDSA key: %v", err)
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	_, err := k.Sign(nil, []byte("m"), crypto.Hash(0))
	if !errors.Is(err, hsm.ErrGone) || !strings.Contains(advice.Hint(err), "ssh-agent") {
		t.Errorf("while the agent is away: %v, hint %q", err, advice.Hint(err))
	}
	_ = os.Remove(socket)
	startAgent(t, socket)
	if _, err := k.Sign(nil, []byte("m"), crypto.Hash(0)); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("a new agent without the key: %v", err)
	}
	addKey(t, socket, "ca", "ed25519")
	if _, err := k.Sign(nil, []byte("m"), crypto.Hash(0)); err == nil || !strings.Contains(err.Error(), "another public key") {
		t.Errorf("a new agent with another key of this name: %v", err)
	}
}

// TestKeyFiles: a key file that others may read is refused, and so is a wrong pass phrase, once for all.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path, secret := filepath.Join(dir, "k.pem"), filepath.Join(dir, "pass")
	run(t, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:right", "-out", path)
	if err := os.WriteFile(secret, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(pin string) error {
		tok := must[*Token](t)(Open(t.Context(), Config{URI: hsm.URI{Scheme: "softkms", Opaque: path, PINSource: pin}}))
		defer tok.Close()
		_, err := tok.Key(t.Context(), hsm.Query{})
		return err
	}
	if err := open(secret); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("a wrong pass phrase: %v", err)
	}
	if err := open(""); !errors.Is(err, hsm.ErrPIN) || !strings.Contains(advice.Hint(err), "pin-source") {
		t.Errorf("no pass phrase: %v", err)
	}
	if err := os.WriteFile(secret, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(secret); err != nil {
		t.Errorf("the right pass phrase: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := open(secret); advice.KindOf(err) != advice.Refused || !strings.Contains(advice.Hint(err), "chmod 600") {
		t.Errorf("a key file that the group reads: %v", err)
	}
	// What is generated never replaces a file, and is 0600.
	tok := must[*Token](t)(Open(t.Context(), Config{URI: hsm.URI{Scheme: "softkms"}}))
	defer tok.Close()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Generate(t.Context(), hsm.GenerateSpec{Label: taken, Algorithm: hsm.P256, Class: hsm.Unread}); err == nil {
		t.Error("a file was replaced by a key")
	}
	if b, err := os.ReadFile(taken); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestClouds: without an account, and with an endpoint that is shut or never answers, each cloud's error comes within the deadline
// and says what to do. What a cloud answers itself cannot be tried here.
func TestClouds(t *testing.T) {
	shut, silent := shutAddress(t), silentAddress(t)
	for name, c := range map[string]struct {
		uri string
		env map[string]string
	}{
		"AWS, shut":            {"awskms:key-id=alias/x;region=eu-central-1", map[string]string{"AWS_ENDPOINT_URL": "http://" + shut, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}},
		"AWS, silent":          {"awskms:key-id=alias/x;region=eu-central-1", map[string]string{"AWS_ENDPOINT_URL": "http://" + silent, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}},
		"AWS, no account":      {"awskms:key-id=alias/x;region=eu-central-1", map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}},
		"Azure, no account":    {"azurekms:name=x;vault=v", map[string]string{"HTTPS_PROXY": "http://" + shut, "IDENTITY_ENDPOINT": "http://" + shut, "IDENTITY_HEADER": "x"}},
		"Azure, silent":        {"azurekms:name=x;vault=v", map[string]string{"HTTPS_PROXY": "http://" + silent, "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}},
		"Google, no account":   {"cloudkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", map[string]string{"GCE_METADATA_HOST": shut}},
		"Google, no such file": {"cloudkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1;credentials-file=/nowhere.json", nil},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			for _, v := range []string{"AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_ID"} {
				t.Setenv(v, "")
			}
			t.Setenv("HOME", home)
			t.Setenv("PATH", home) // no az, no gcloud
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			begun := time.Now()
			tok, err := Open(t.Context(), Config{URI: parse(t, c.uri), Timeout: 800 * time.Millisecond})
			if err == nil {
				_, err = tok.Key(t.Context(), hsm.Query{})
				_ = tok.Close()
			}
			took := time.Since(begun)
			if err == nil || took > 20*time.Second {
				t.Fatalf("%v after %v", err, took)
			}
			if !strings.Contains(err.Error(), "open key") || strings.Contains(err.Error(), "\n") || advice.Hint(err) == "" {
				t.Errorf("%v; hint %q", err, advice.Hint(err))
			}
			t.Logf("%.1f s: %v\n hint: %s", took.Seconds(), err, advice.Hint(err))
		})
	}
}

// shutAddress is one where nobody listens, silentAddress one that takes connections and never answers.
func shutAddress(t *testing.T) string {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().String()
}

func silentAddress(t *testing.T) string {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return l.Addr().String()
}
