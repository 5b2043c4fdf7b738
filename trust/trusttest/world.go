// Package trusttest makes small trust repositories with throw-away software keys, for tests: of this room, and of those that read
// views. Nothing but tests imports it.
package trusttest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/trust"
)

// CA is a certificate with its key.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// World is an environment: a Fleet Root, an issuing CA under it, officers and online keys.
type World struct {
	t                        testing.TB
	Now                      time.Time
	Root, Issuing            CA
	RootKeys, TargetsKeys    []crypto.Signer
	Snapshot, Timestamp, CRL crypto.Signer
	Content                  trust.Content
	Keys                     trust.Keys
	Validity                 trust.Validity
	// Offline is the officers' part, Dir the published folder.
	Offline trust.Files
	Pin     trust.Pin
	Dir     string
}

// Start is the time at which a World begins.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// New makes an environment whose officers' part is built: root 2 of 3 (P-256, Ed25519, RSA), targets 2 of 2, with a CRL of the
// Fleet Root. Nothing is published yet.
func New(t testing.TB) *World {
	t.Helper()
	return NewAt(t, Start)
}

// NewAt is New at another time, in whole seconds.
func NewAt(t testing.TB, now time.Time) *World {
	t.Helper()
	w := &World{t: t, Now: now, Dir: t.TempDir()}
	w.Root = w.NewCA("Specimen Fleet Root", nil)
	w.Issuing = w.NewCA("Specimen Issuing CA", &w.Root)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	w.RootKeys = []crypto.Signer{w.Key(), ed, rsaKey()}
	w.TargetsKeys = []crypto.Signer{w.Key(), w.Key()}
	w.Snapshot, w.Timestamp, w.CRL = w.Key(), w.Key(), w.Key()
	w.Content = trust.Content{
		Environment:   "test",
		Anchors:       []*x509.Certificate{w.Root.Cert},
		Intermediates: []*x509.Certificate{w.Issuing.Cert},
		CRLs:          [][]byte{w.MakeCRL(w.Root, 1)},
	}
	w.Keys = trust.Keys{
		Root:     trust.Role{Keys: publics(w.RootKeys), Threshold: 2},
		Targets:  trust.Role{Keys: publics(w.TargetsKeys), Threshold: 2},
		Snapshot: trust.One(w.Snapshot.Public()), Timestamp: trust.One(w.Timestamp.Public()), CRL: trust.One(w.CRL.Public()),
	}
	w.Validity = trust.Validity{RootExpires: w.Now.AddDate(2, 0, 0), TargetsExpires: w.Now.AddDate(1, 0, 0)}
	w.Rebuild()
	w.Pin = trust.PinRoot(w.Offline["metadata/1.root.json"])
	return w
}

// rsaKey is the one slow key to make; one for all worlds is enough.
var rsaKey = func() func() crypto.Signer {
	var key *rsa.PrivateKey
	return func() crypto.Signer {
		if key == nil {
			key, _ = rsa.GenerateKey(rand.Reader, 2048)
		}
		return key
	}
}()

func (w *World) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// Key makes a P-256 key.
func (w *World) Key() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	return key
}

func publics(keys []crypto.Signer) []crypto.PublicKey {
	var list []crypto.PublicKey
	for _, k := range keys {
		list = append(list, k.Public())
	}
	return list
}

// Signers are the officers' keys.
func (w *World) Signers() []crypto.Signer {
	return append(w.RootKeys[:len(w.RootKeys):len(w.RootKeys)], w.TargetsKeys...)
}

// Rebuild builds the officers' part anew, after what is built already.
func (w *World) Rebuild() {
	w.t.Helper()
	var prev *trust.Repository
	var err error
	if w.Offline != nil {
		prev, err = trust.OpenRepository(w.Offline, w.Pin, w.Now)
		w.must(err)
	}
	w.Offline, err = trust.Build(prev, w.Content, w.Keys, w.Validity, w.Now, w.Signers()...)
	w.must(err)
}

// NewCA makes a self-signed CA, or one under issuer.
func (w *World) NewCA(name string, issuer *CA) CA {
	w.t.Helper()
	return w.CAFor(name, w.Key(), issuer)
}

// CAFor is NewCA for a key that exists.
func (w *World) CAFor(name string, key crypto.Signer, issuer *CA) CA {
	w.t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: w.Now.AddDate(-1, 0, 0), NotAfter: w.Now.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if issuer == nil {
		issuer = &CA{Cert: tmpl, Key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer.Cert, key.Public(), issuer.Key)
	w.must(err)
	cert, err := x509.ParseCertificate(der)
	w.must(err)
	return CA{cert, key}
}

// Device makes a device's certificate under the issuing CA.
func (w *World) Device(cn string, serial int64) CA {
	w.t.Helper()
	key := w.Key()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
		NotBefore: w.Now.AddDate(0, 0, -1), NotAfter: w.Now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, w.Issuing.Cert, key.Public(), w.Issuing.Key)
	w.must(err)
	cert, err := x509.ParseCertificate(der)
	w.must(err)
	return CA{cert, key}
}

// MakeCRL makes a CRL of 30 days, in DER.
func (w *World) MakeCRL(ca CA, number int64, serials ...int64) []byte {
	w.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: w.Now, NextUpdate: w.Now.AddDate(0, 0, 30)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: big.NewInt(s), RevocationTime: w.Now, ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.Cert, ca.Key)
	w.must(err)
	return der
}

// PublisherConfig is that of the World's published folder; the clock is w.Now.
func (w *World) PublisherConfig() trust.PublisherConfig {
	return trust.PublisherConfig{Dir: w.Dir, Pin: w.Pin, Environment: w.Content.Environment,
		Snapshot: w.Snapshot, Timestamp: w.Timestamp, CRL: w.CRL, Now: func() time.Time { return w.Now }}
}

// Publish opens a publisher, runs do with it.
func (w *World) Publish(do func(*trust.Publisher) error) error {
	w.t.Helper()
	p, err := trust.NewPublisher(w.PublisherConfig())
	w.must(err)
	return do(p)
}

// Import publishes the officers' part.
func (w *World) Import() {
	w.t.Helper()
	w.must(w.Publish(func(p *trust.Publisher) error { return p.Import(w.Offline) }))
}

// AddCRL publishes a CRL of the issuing CA.
func (w *World) AddCRL(number int64, serials ...int64) {
	w.t.Helper()
	w.must(w.Publish(func(p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, number, serials...)) }))
}

// View opens what is published.
func (w *World) View() *trust.View {
	w.t.Helper()
	v, err := trust.Open(os.DirFS(w.Dir), w.Pin, w.Now)
	w.must(err)
	return v
}

// Snap copies a folder into memory.
func Snap(t testing.TB, dir string) trust.Files {
	t.Helper()
	files := trust.Files{}
	for _, sub := range []string{"metadata", "targets", "targets/crl", "targets/officers-crl", "targets/uptane"} {
		list, err := os.ReadDir(dir + "/" + sub)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Type().IsRegular() {
				data, err := os.ReadFile(dir + "/" + sub + "/" + e.Name())
				if err != nil {
					t.Fatal(err)
				}
				files[sub+"/"+e.Name()] = data
			}
		}
	}
	return files
}

// Forge rewrites the signed part of a metadata file and signs it with these keys and no others. It does not use package
// trust's own signing.
func Forge(t testing.TB, files trust.Files, path string, edit func(signed map[string]any), signers ...crypto.Signer) {
	t.Helper()
	var doc map[string]any
	dec := json.NewDecoder(bytes.NewReader(files[path]))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	signed := doc["signed"].(map[string]any)
	if edit != nil {
		edit(signed)
	}
	payload, err := cjson.EncodeCanonical(signed)
	if err != nil {
		t.Fatal(err)
	}
	sigs := []any{}
	for _, s := range signers {
		sigs = append(sigs, map[string]any{"keyid": KeyID(t, s.Public()), "sig": hex.EncodeToString(signature(t, s, payload))})
	}
	doc["signatures"] = sigs
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	files[path] = data
}

// KeyID is the TUF id of a key.
func KeyID(t testing.TB, pub crypto.PublicKey) string {
	t.Helper()
	k, err := metadata.KeyFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	id, err := k.ID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func signature(t testing.TB, s crypto.Signer, payload []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(payload)
	message, opts := digest[:], crypto.SignerOpts(crypto.SHA256)
	switch s.Public().(type) {
	case ed25519.PublicKey:
		message, opts = payload, crypto.Hash(0)
	case *rsa.PublicKey:
		opts = &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	}
	sig, err := s.Sign(rand.Reader, message, opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// Describe renews what the metadata file at path says of the file at named (hash, length, version), so that a forgery is whole.
func Describe(files trust.Files, name string, path string, version int64) func(signed map[string]any) {
	return func(signed map[string]any) {
		h := sha256.Sum256(files[path])
		signed["meta"].(map[string]any)[name] = map[string]any{
			"version": version, "length": len(files[path]), "hashes": map[string]any{"sha256": hex.EncodeToString(h[:])}}
	}
}

// Serial is a serial number.
func Serial(n int64) *big.Int { return big.NewInt(n) }
