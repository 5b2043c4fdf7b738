package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// operations is an Operations Root, as the ceremony makes one.
type operations struct {
	t    *testing.T
	d    *desk
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

func newOperations(t *testing.T, d *desk) *operations {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	o := &operations{t: t, d: d, key: key}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Operations Root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der := o.sign(template, template, key.Public().(ed25519.PublicKey))
	if o.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	d.write("operations.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return o
}

func (o *operations) sign(template, parent *x509.Certificate, pub ed25519.PublicKey) []byte {
	o.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	return der
}

func (o *operations) issue(role, name string, serial int64) tls.Certificate {
	o.t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		o.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if role != "" {
		template.URIs = []*url.URL{{Scheme: "urn", Opaque: "hanaper:" + role + ":" + name}}
	}
	return tls.Certificate{Certificate: [][]byte{o.sign(template, o.cert, pub)}, PrivateKey: key}
}

// list writes the CRL.
func (o *operations) list(number int64, revoked ...int64) {
	o.listUntil(time.Now().Add(time.Hour), number, revoked...)
}

func (o *operations) listUntil(next time.Time, number int64, revoked ...int64) {
	o.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: next}
	for _, s := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, o.cert, o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	o.d.write("operations.crl", der)
}

// TestOperatorRights: who administers the Uptane server is an operator who is named and not revoked, and does what was given
// to that operator. Stations, whose certificates are under the same root, do nothing.
func TestOperatorRights(t *testing.T) {
	d := newDesk(t)
	pool, _ := certificate(t, d)
	ops := newOperations(t, d)
	ops.list(1)
	d.config("uptane:\n  keys: {algorithm: Ed25519}\n  admin: {listen: \"127.0.0.1:0\", tls: {certificate: tls.pem, key: tls.key, clients: operations.pem}, crl: operations.crl,\n" +
		"    operators: [{name: olga, may: [look, assign, remove]}, {name: paul, may: [publish]}, {name: rita, may: [look, hand-over]}]}\n  devices: {listen: \"unix:devices.sock\"}\n")
	d.ok("uptane", "init")
	_, admin, devices := d.background("uptane", "serve")
	certs := map[string]tls.Certificate{"olga": ops.issue("operator", "olga", 2), "paul": ops.issue("operator", "paul", 3), "rita": ops.issue("operator", "rita", 4),
		"station": ops.issue("station", "olga", 5), "stranger": ops.issue("operator", "eve", 6), "no role": ops.issue("", "olga", 7)}
	clients := map[string]*http.Client{}
	for name, cert := range certs {
		clients[name] = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}}}
	}
	ask := func(name, method, path, body string) int {
		t.Helper()
		req, err := http.NewRequest(method, admin+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := clients[name].Do(req)
		if err != nil {
			t.Fatalf("%s: %s %s: %v", name, method, path, err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	const dev = "/api/v1/director/admin/devices"
	routes := []struct{ right, method, path, body string }{
		{"", "GET", "/api/v1/user_repo/root.json", ""}, {"", "GET", "/api/v1/user_repo/targets.json", ""},
		{"look", "GET", dev, ""}, {"look", "GET", dev + "/vin-1", ""},
		{"assign", "PUT", dev + "/vin-1/assignment", `{"target":"x"}`}, {"assign", "DELETE", dev + "/vin-1/assignment", ""},
		{"remove", "DELETE", dev + "/vin-1", ""}, {"remove", "PUT", dev + "/vin-1/replacement", `{"seconds":3600}`}, {"look", "GET", dev + "/vin-1/told", ""},
		{"publish", "PUT", "/api/v1/user_repo/targets", "{}"}, {"publish", "POST", "/api/v1/user_repo/root", "{}"}, {"hand-over", "POST", "/api/v1/user_repo/root/cosign", "{}"},
		{"publish", "PUT", "/api/v1/user_repo/delegations/x.json", "{}"}, {"publish", "POST", "/api/v1/user_repo/multipart/initiate/x?fileSize=1", ""},
		{"publish", "PUT", "/api/v1/user_repo/uploads/x", ""}, {"hand-over", "GET", "/api/v1/user_repo/root/private_keys/" + strings.Repeat("0", 64), ""},
		{"hand-over", "DELETE", "/api/v1/user_repo/root/private_keys/" + strings.Repeat("0", 64), ""}, {"hand-over", "POST", "/api/v1/director/admin/repo/root/cosign", "{}"}, {"publish", "POST", "/api/v1/director/admin/repo/root", "{}"},
	}
	may := map[string]string{"olga": "look assign remove", "paul": "publish", "rita": "look hand-over"}
	state := func() string { return tree(t, d.path("uptane/image")) + tree(t, d.path("uptane/director")) }
	before := state()
	for _, r := range routes {
		for name := range clients {
			status := ask(name, r.method, r.path, r.body)
			rights, named := may[name]
			refused := status == http.StatusForbidden || status == http.StatusUnauthorized
			if want := !named || r.right != "" && !strings.Contains(rights, r.right); refused != want {
				t.Errorf("%s, %s %s: status %d, refused should be %v", name, r.method, r.path, status, want)
			}
		}
	}
	if before == "" || state() != before {
		t.Error("a refused request changed something")
	}

	// Revoked in the middle of a session: the open connection ends to be of use.
	if s := ask("olga", "GET", dev, ""); s != http.StatusOK {
		t.Errorf("before the revocation: %d", s)
	}
	ops.list(2, 2)
	if s := ask("olga", "GET", dev, ""); s != http.StatusForbidden {
		t.Errorf("revoked: %d", s)
	}
	// A list that goes back, and a file that is gone, open nothing.
	ops.list(1)
	if s := ask("olga", "GET", dev, ""); s != http.StatusForbidden {
		t.Errorf("an older list: %d", s)
	}
	if err := os.Remove(d.path("operations.crl")); err != nil {
		t.Fatal(err)
	}
	if s := ask("olga", "GET", dev, ""); s != http.StatusForbidden {
		t.Errorf("no list: %d", s)
	}
	if s := ask("rita", "GET", dev, ""); s != http.StatusOK {
		t.Errorf("the list that was taken up last is good still: %d", s)
	}
	ops.listUntil(time.Now().Add(time.Second), 3)
	if s := ask("rita", "GET", dev, ""); s != http.StatusOK {
		t.Errorf("a list that is about to end: %d", s)
	}
	time.Sleep(2100 * time.Millisecond)
	if s := ask("rita", "GET", dev, ""); s != http.StatusForbidden {
		t.Errorf("the list has ended: %d", s)
	}

	// The devices' side is a file that others may not open.
	path := strings.TrimPrefix(devices, "unix:")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 || info.Mode().Type() != os.ModeSocket {
		t.Fatalf("%s: %v, %v", path, info, err)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	res, err := c.Get("http://devices/repo/timestamp.json")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("through the socket: %s", res.Status)
	}
}

// tree is every file of the repositories and what is in it; locks come and go.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		at := dir + "/" + e.Name()
		switch {
		case e.IsDir():
			b.WriteString(tree(t, at))
		case e.Name() != "lock" && !strings.HasSuffix(e.Name(), "-shm"): // the latter counts readers
			data, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %x\n", at, data)
		}
	}
	return b.String()
}
