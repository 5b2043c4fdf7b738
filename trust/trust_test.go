package trust_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

func TestPublishAndOpen(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	v := w.View()
	if v.Environment() != "test" || len(v.Anchors()) != 1 || len(v.Intermediates()) != 1 {
		t.Fatalf("got %q, %d anchors, %d intermediates", v.Environment(), len(v.Anchors()), len(v.Intermediates()))
	}
	if got, want := v.Versions(), (trust.Versions{Root: 1, Targets: 1, CRL: 1, Snapshot: 1, Timestamp: 1}); got != want {
		t.Errorf("versions %+v, want %+v", got, want)
	}
	if _, ok := v.CRL(w.Issuing.Cert); ok {
		t.Error("a CRL of the issuing CA before one was published")
	}
	if got, want := v.Expires(), w.Now.Add(24*time.Hour); !got.Equal(want) {
		t.Errorf("expires %v, want %v", got, want)
	}
	before := v.Fingerprint()
	w.AddCRL(1, 77)
	v = w.View()
	if !v.Revoked(w.Issuing.Cert, big.NewInt(77)) || v.Revoked(w.Issuing.Cert, big.NewInt(78)) || v.Revoked(w.Root.Cert, big.NewInt(77)) {
		t.Error("revocation is not what the CRL says")
	}
	if v.Fingerprint() == before {
		t.Error("the fingerprint is blind to a CRL")
	}
	if !v.Revoked(w.Issuing.Cert, big.NewInt(-1)) || !v.Revoked(w.Issuing.Cert, new(big.Int).Lsh(big.NewInt(1), 170)) {
		t.Error("serials out of bounds are not taken as revoked")
	}
	// A timestamp signed anew leaves the fingerprint alone.
	before = v.Fingerprint()
	w.Now = w.Now.Add(13 * time.Hour)
	if err := w.Publish((*trust.Publisher).Refresh); err != nil {
		t.Fatal(err)
	}
	v = w.View()
	if v.Versions().Timestamp != 3 || v.Versions().Snapshot != 2 || v.Fingerprint() != before {
		t.Errorf("after a refresh: %+v", v.Versions())
	}
	if err := v.Valid(w.Now.Add(24 * time.Hour)); !errors.Is(err, trust.ErrExpired) || advice.KindOf(err) != advice.Unverified {
		t.Errorf("a day later: %v", err)
	}
}

// TestDeterministic: the same inputs make the same bytes to sign.
func TestDeterministic(t *testing.T) {
	w := trusttest.New(t)
	a, err := trust.Prepare(nil, w.Content, w.Keys, w.Validity, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := trust.Prepare(nil, w.Content, w.Keys, w.Validity, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Digests()) != 2 || !maps.Equal(a.Digests(), b.Digests()) {
		t.Errorf("%v and %v", a.Digests(), b.Digests())
	}
}

// failing is a key whose token fails, or answers with rubbish.
type failing struct {
	crypto.Signer
	err error
}

func (f failing) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	return bytes.Repeat([]byte{1}, 70), nil
}

func TestTokenErrorsSurface(t *testing.T) {
	w := trusttest.New(t)
	p, err := trust.Prepare(nil, w.Content, w.Keys, w.Validity, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("CKR_DEVICE_ERROR")
	signers := w.Signers()
	signers[0] = failing{signers[0], gone}
	if files, err := p.Sign(signers...); !errors.Is(err, gone) || files != nil {
		t.Errorf("got %d files, %v", len(files), err)
	}
	signers[0] = failing{w.RootKeys[0], nil}
	if files, err := p.Sign(signers...); err == nil || !strings.Contains(err.Error(), "does not verify") || files != nil {
		t.Errorf("got %d files, %v", len(files), err)
	}
	// Too few signers: the threshold says so, and nothing comes out.
	if files, err := p.Sign(w.RootKeys[0], w.TargetsKeys[0], w.TargetsKeys[1]); !errors.Is(err, trust.ErrSignature) || files != nil {
		t.Errorf("got %d files, %v", len(files), err)
	}
	if _, err := p.Sign(w.Signers()...); err != nil {
		t.Errorf("after the failures: %v", err)
	}
	// The online half too: nothing is written.
	w.Import()
	before := trusttest.Snap(t, w.Dir)
	w.Now = w.Now.Add(23 * time.Hour)
	good := w.Timestamp
	w.Timestamp = failing{good, gone}
	if err := w.Publish((*trust.Publisher).Refresh); !errors.Is(err, gone) {
		t.Errorf("refresh: %v", err)
	}
	sameFiles(t, before, trusttest.Snap(t, w.Dir))
}

func sameFiles(t *testing.T, a, b trust.Files) {
	t.Helper()
	if !maps.EqualFunc(a, b, bytes.Equal) {
		t.Errorf("files have changed: %v and %v", slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
	}
}

func TestPrepareRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		edit       func(w *trusttest.World)
	}{
		{"environment", "not allowed", func(w *trusttest.World) { w.Content.Environment = "Prod/1" }},
		{"P-384", "P-384 key cannot sign", func(w *trusttest.World) { w.Keys.Root.Keys[0] = p384.Public() }},
		{"threshold", "threshold of 4", func(w *trusttest.World) { w.Keys.Root.Threshold = 4 }},
		{"no threshold", "threshold of 0", func(w *trusttest.World) { w.Keys.Targets.Threshold = 0 }},
		{"key twice", "twice", func(w *trusttest.World) { w.Keys.Root.Keys[1] = w.Keys.Root.Keys[0] }},
		{"officer online", "officers' root key", func(w *trusttest.World) { w.Keys.Timestamp = trust.One(w.RootKeys[0].Public()) }},
		{"issuing key online", "online trust key as well", func(w *trusttest.World) { w.Keys.CRL = trust.One(w.Issuing.Key.Public()) }},
		{"no anchor", "no anchor", func(w *trusttest.World) { w.Content.Anchors = nil }},
		{"anchor not self-signed", "not self-signed", func(w *trusttest.World) {
			w.Content.Anchors, w.Content.Intermediates = w.Content.Intermediates, nil
		}},
		{"leaf as CA", "not a CA", func(w *trusttest.World) { w.Content.Intermediates[0] = w.Device("d", 1).Cert }},
		{"stranger", "does not chain", func(w *trusttest.World) { w.Content.Intermediates[0] = w.NewCA("Stranger", nil).Cert }},
		{"twice", "stands twice", func(w *trusttest.World) { w.Content.Intermediates = append(w.Content.Intermediates, w.Issuing.Cert) }},
		{"past", "is past", func(w *trusttest.World) { w.Validity.TargetsExpires = w.Now }},
		{"stranger's CRL", "officers do not name", func(w *trusttest.World) {
			w.Content.CRLs = append(w.Content.CRLs, w.MakeCRL(w.NewCA("Stranger", nil), 1))
		}},
		{"old CRL", "past its nextUpdate", func(w *trusttest.World) {
			w.Now = w.Now.AddDate(0, -3, 0)
			old := w.MakeCRL(w.Issuing, 1)
			w.Now = trusttest.Start
			w.Content.CRLs = append(w.Content.CRLs, old)
		}},
		{"two CRLs", "two CRLs", func(w *trusttest.World) { w.Content.CRLs = append(w.Content.CRLs, w.MakeCRL(w.Root, 2)) }},
		{"policy", "key type \"DSA\"", func(w *trusttest.World) {
			w.Content.Policy = trust.DefaultPolicy("test")
			w.Content.Policy.KeyTypes = []string{"DSA"}
		}},
		{"policy of another environment", "\"prod\"", func(w *trusttest.World) { w.Content.Policy = trust.DefaultPolicy("prod") }},
		{"release of a stranger", "not named", func(w *trusttest.World) {
			w.Content.Releases = []trust.Release{{Issuer: trust.ID{1}, Serial: big.NewInt(1)}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := trusttest.New(t)
			c.edit(w)
			_, err := trust.Prepare(nil, w.Content, w.Keys, w.Validity, w.Now)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if k := advice.KindOf(err); k != advice.Usage && k != advice.Refused {
				t.Errorf("kind %v", k)
			}
		})
	}
}

// TestNextCeremony: what follows a previous repository.
func TestNextCeremony(t *testing.T) {
	w := trusttest.New(t)
	w.Content.CRLs = [][]byte{w.MakeCRL(w.Root, 5, 9)}
	w.Rebuild()
	prev, err := trust.OpenRepository(w.Offline, w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if prev.TargetsVersion() != 2 || prev.RootVersion() != 1 {
		t.Errorf("targets %d, root %d: only the targets were to be signed anew", prev.TargetsVersion(), prev.RootVersion())
	}
	for _, c := range []struct {
		name, want string
		crls       [][]byte
	}{
		{"CRL gone", "has none", nil},
		{"number falls", "number 4", [][]byte{w.MakeCRL(w.Root, 4, 9)}},
		{"serial gone", "no longer lists", [][]byte{w.MakeCRL(w.Root, 6)}},
	} {
		content := w.Content
		content.CRLs = c.crls
		if _, err := trust.Prepare(prev, content, w.Keys, w.Validity, w.Now); err == nil || !strings.Contains(err.Error(), c.want) || advice.KindOf(err) != advice.Refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	content := w.Content
	content.CRLs = [][]byte{w.MakeCRL(w.Root, 6)}
	content.Releases = []trust.Release{{Issuer: trust.IssuerID(w.Root.Cert), Serial: big.NewInt(9)}}
	if _, err := trust.Prepare(prev, content, w.Keys, w.Validity, w.Now); err != nil {
		t.Errorf("released: %v", err)
	}
	content.Environment = "other"
	if _, err := trust.Prepare(prev, content, w.Keys, w.Validity, w.Now); err == nil || advice.KindOf(err) != advice.Refused {
		t.Errorf("other environment: %v", err)
	}
	// Root rotation: an officer leaves, the timestamp key changes; old and new thresholds sign.
	fresh := w.Key()
	oldRoots := w.RootKeys
	w.RootKeys = []crypto.Signer{oldRoots[1], oldRoots[2], fresh}
	w.Keys.Root.Keys = []crypto.PublicKey{oldRoots[1].Public(), oldRoots[2].Public(), fresh.Public()}
	p, err := trust.Prepare(prev, w.Content, w.Keys, w.Validity, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Sign(append(w.TargetsKeys, fresh, oldRoots[1])...); !errors.Is(err, trust.ErrSignature) {
		t.Errorf("one old key of two: %v", err)
	}
	files, err := p.Sign(append(w.TargetsKeys, fresh, oldRoots[1], oldRoots[0])...)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := files["metadata/2.root.json"]; !ok {
		t.Error("no second root")
	}
	if _, err := trust.OpenRepository(trust.Files(files), w.Pin, w.Now); err != nil {
		t.Error(err)
	}
}

func TestOpenEmpty(t *testing.T) {
	w := trusttest.New(t)
	for _, dir := range []string{t.TempDir(), t.TempDir() + "/none"} {
		_, err := trust.Open(os.DirFS(dir), w.Pin, w.Now)
		if !errors.Is(err, trust.ErrEmpty) || advice.KindOf(err) != advice.Unverified || advice.Hint(err) == "" {
			t.Errorf("%v", err)
		}
	}
}
