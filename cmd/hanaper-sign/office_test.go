package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/fleet"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// testServer is a server with both repositories.
type testServer struct {
	image    *reposerver.Image
	director *reposerver.Director
	first    *uptane.Root // the trust seed of devices that were made today
	http     *httptest.Server
	dir      string
	config   reposerver.Config
}

const officeSecret = "a secret of the build machine"

// newTestServer makes a server. Its keys are in a token, or in a folder that gives none out ("shut"), or can be fetched, as
// with the original server ("folder").
func newTestServer(t testing.TB, store, login string) *testServer {
	t.Helper()
	o := &testServer{dir: t.TempDir()}
	folder, err := reposerver.NewFolderKeys(filepath.Join(o.dir, "keys"), "Ed25519")
	if err != nil {
		t.Fatal(err)
	}
	var keys reposerver.KeyStore = folder
	switch store {
	case "sealed":
		keys = newTokenKeys(t)
	case "shut":
		keys = sealedFolder{folder}
	}
	o.config = reposerver.Config{Dir: o.dir, Keys: keys}
	for _, kind := range []uptane.Repository{uptane.Image, uptane.Director} {
		c := o.config
		c.Kind = kind
		if err := reposerver.Create(t.Context(), c, reposerver.Start{}); err != nil {
			t.Fatal(err)
		}
	}
	if o.image, err = reposerver.OpenImage(o.config); err != nil {
		t.Fatal(err)
	}
	devices, err := fleet.Open(t.Context(), filepath.Join(o.dir, "director"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { devices.Close() })
	if o.director, err = reposerver.OpenDirector(reposerver.DirectorConfig{Config: o.config, Image: o.image, Fleet: devices}); err != nil {
		t.Fatal(err)
	}
	access := reposerver.AccessConfig{Credentials: []reposerver.Credential{{ID: "build", Secret: []byte(officeSecret), May: []reposerver.Right{reposerver.Publish, reposerver.HandOver}}}}
	switch login {
	case "none":
		access = reposerver.AccessConfig{Open: true}
	case "mtls":
		access = reposerver.AccessConfig{Certificate: func(*tls.ConnectionState) (reposerver.Admitted, error) {
			return reposerver.Admitted{Name: "operator", May: []reposerver.Right{reposerver.Publish, reposerver.HandOver}}, nil
		}}
	}
	server, err := reposerver.NewServer(reposerver.ServerConfig{
		Image: o.image, Director: o.director, Access: access,
		Storage: reposerver.StorageConfig{Dir: filepath.Join(o.dir, "uploads"), PartSize: 64 << 10, MaxFile: 64 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", server.Admin())
	mux.Handle("/treehub/", http.StripPrefix("/treehub", http.FileServer(http.Dir(filepath.Join(o.dir, "treehub")))))
	o.http = httptest.NewUnstartedServer(mux)
	o.first = o.root(t)
	return o
}

func (o *testServer) root(t testing.TB) *uptane.Root {
	t.Helper()
	data, found, err := o.image.Root(0)
	if err != nil || !found {
		t.Fatalf("%v, found %v", err, found)
	}
	root, err := uptane.ParseRoot(data)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// credentials is the archive that a release engineer gets.
func (o *testServer) credentials(t testing.TB, login string, p12 map[string][]byte) []byte {
	t.Helper()
	c := repo.NewCredentials()
	set := func(name string, data []byte) {
		if err := c.Set(name, data); err != nil {
			t.Fatal(err)
		}
	}
	treehub := map[string]any{"ostree": map[string]any{"server": o.http.URL + "/treehub"}}
	switch login {
	case "none", "mtls":
		treehub["no_auth"] = true
	default:
		treehub["oauth2"] = map[string]any{"server": o.http.URL, "client_id": "build", "client_secret": officeSecret, "scope": "none"}
	}
	b, err := json.Marshal(treehub)
	if err != nil {
		t.Fatal(err)
	}
	set("treehub.json", b)
	set("tufrepo.url", []byte(o.http.URL))
	set("api_gateway.url", []byte(o.http.URL))
	set("root.json", o.first.Bytes())
	for name, data := range p12 {
		set(name, data)
	}
	if b, err = c.Bytes(); err != nil {
		t.Fatal(err)
	}
	return b
}

// start runs the server; for mTLS it returns the archives of client and server certificate.
func (o *testServer) start(t testing.TB, login string) map[string][]byte {
	t.Helper()
	if login != "mtls" {
		o.http.Start()
		return nil
	}
	ca, caKey := certificate(t, "office CA", nil, nil)
	cert, key := certificate(t, "localhost", ca, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	o.http.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	o.http.StartTLS()
	client, clientKey := certificate(t, "release engineer", ca, caKey)
	one, err := pkcs12.Modern.Encode(clientKey, client, []*x509.Certificate{ca}, "")
	if err != nil {
		t.Fatal(err)
	}
	two, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{ca}, "")
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"client_auth.p12": one, "server.p12": two}
}

func certificate(t testing.TB, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: parent == nil, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, parentKey, template.ExtKeyUsage = template, key, nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// device verifies the Image repository as a device does that was made when the server was new.
func (o *testServer) device(now time.Time) (*uptane.VerifiedImage, error) {
	var f uptane.ImageFiles
	for v := o.first.Version() + 1; ; v++ {
		data, found, err := o.image.Root(v)
		if err != nil {
			return nil, err
		}
		if !found {
			break
		}
		f.Roots = append(f.Roots, data)
	}
	var err error
	if f.Targets, _, err = o.image.Targets(); err != nil {
		return nil, err
	}
	if f.Snapshot, err = o.image.Snapshot(); err != nil {
		return nil, err
	}
	if f.Timestamp, err = o.image.Timestamp(); err != nil {
		return nil, err
	}
	targets, err := uptane.ParseTargets(uptane.Image, f.Targets)
	if err != nil {
		return nil, err
	}
	f.Delegations = map[string][]byte{}
	for _, d := range targets.Delegations() {
		if data, found, err := o.image.Delegation(d.Name); err != nil {
			return nil, err
		} else if found {
			f.Delegations[d.Name] = data
		}
	}
	return uptane.VerifyImage(o.first, f, nil, now)
}
