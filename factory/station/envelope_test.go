package station

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/advice"
)

// TestEveryByteOfASpool: a changed byte anywhere in a carried file is noticed, unless it changes nothing that is said, such as a blank between words of
// JSON; and a signer who
// has expired, is revoked or not yet valid is refused.
func TestEveryByteOfASpool(t *testing.T) {
	root := newRoot(t, "operations-root")
	dir := t.TempDir()
	root.write(t, dir, "root")
	signer := root.issue(t, "station", ca.Template{Subject: pkix.Name{CommonName: "line-1"}, URIs: []*url.URL{ca.StationURI("line-1")}})
	id := tls.Certificate{Certificate: [][]byte{signer.cert.Raw}, PrivateKey: signer.key, Leaf: signer.cert}
	file, _, err := seal(id, spoolType, spooled{Format: spoolFormat, ID: "00", Station: "line-1"})
	if err != nil {
		t.Fatal(err)
	}
	c := &Config{}
	c.Factory.CA = filepath.Join(dir, "root.pem")
	open := func(b []byte, now time.Time) ([]byte, string, error) {
		trust, err := c.spoolTrust(func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return trust.unseal("spool", spoolType, b)
	}
	now := time.Now()
	payload, by, err := open(file, now)
	if err != nil || by != "line-1" {
		t.Fatal(by, err)
	}
	trust := must[*carriedTrust](t)(c.spoolTrust(func() time.Time { return now }))
	for i := range file {
		for _, bit := range []byte{1, 0x20, 0x80} {
			changed := bytes.Clone(file)
			changed[i] ^= bit
			got, name, err := trust.unseal("spool", spoolType, changed)
			if err == nil && (!bytes.Equal(got, payload) || name != by) {
				t.Fatalf("byte %d (%q to %q) was not noticed", i, file[i], changed[i])
			}
			if err != nil && advice.KindOf(err) != advice.Unverified {
				t.Fatalf("byte %d: kind %v: %v", i, advice.KindOf(err), err)
			}
		}
	}
	for n := range file[:len(file)-1] {
		if _, _, err := trust.unseal("spool", spoolType, file[:n]); err == nil && len(bytes.TrimSpace(file[n:])) > 0 {
			t.Fatalf("%d bytes of it were taken", n)
		}
	}
	for name, at := range map[string]time.Time{"expired": signer.cert.NotAfter.Add(time.Second), "not yet valid": signer.cert.NotBefore.Add(-time.Second)} {
		if _, _, err := open(file, at); advice.KindOf(err) != advice.Unverified {
			t.Errorf("%s: %v", name, err)
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: signer.cert.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: signer.cert.SerialNumber, RevocationTime: now.Add(-time.Hour)}}}, root.cert, root.key)
	if err != nil {
		t.Fatal(err)
	}
	c.Spool.CRL = filepath.Join(dir, "list.crl")
	if err := os.WriteFile(c.Spool.CRL, der, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(file, now); advice.KindOf(err) != advice.Unverified {
		t.Errorf("revoked: %v", err)
	}
}

func FuzzUnseal(f *testing.F) {
	f.Add([]byte(`{"payloadType":"application/vnd.hanaper.spool+json","payload":"e30=","signatures":[{"keyid":"","cert":"","sig":""}]}`))
	f.Add([]byte(`{"payloadType":"x","payload":"","signatures":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := (&carriedTrust{now: time.Now, pool: x509.NewCertPool()}).unseal("fuzz", spoolType, b); err == nil {
			t.Error("taken without a root")
		}
	})
}
