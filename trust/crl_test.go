package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/bench"
)

// authority makes CRLs for tests of the parser.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) crl(t testing.TB, edit func(*x509.RevocationList), entries ...x509.RevocationListEntry) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: time.Unix(1e9, 0), NextUpdate: time.Unix(2e9, 0), RevokedCertificateEntries: entries}
	if edit != nil {
		edit(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func entry(serial *big.Int, exts ...pkix.Extension) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Unix(1e9, 0), ExtraExtensions: exts}
}

// TestParseCRLAgrees: our serials are those that the standard library and openssl read.
func TestParseCRLAgrees(t *testing.T) {
	a := newAuthority(t)
	big20 := new(big.Int).SetBytes(bytes.Repeat([]byte{0x7f}, 20))
	entries := []x509.RevocationListEntry{entry(big20), entry(big.NewInt(128)), entry(big.NewInt(1)), entry(big.NewInt(70000)), entry(big.NewInt(128))}
	entries[1].ReasonCode = 1
	der := a.crl(t, nil, entries...)
	c, err := parseCRL(der, []*x509.Certificate{a.cert})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.serials) != 4 || c.info.Entries != 4 || c.info.Number.Int64() != 7 {
		t.Errorf("got %d serials, %+v", len(c.serials), c.info)
	}
	std, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range std.RevokedCertificateEntries {
		if s, ok := serialOf(e.SerialNumber); !ok || !c.serials.has(s) {
			t.Errorf("%v is missing", e.SerialNumber)
		}
	}
	at := filepath.Join(t.TempDir(), "c.crl")
	if err := os.WriteFile(at, der, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "crl", "-inform", "DER", "-in", at, "-noout", "-text").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := strings.Count(string(out), "Serial Number: "); n != len(entries) || !strings.Contains(string(out), strings.ToUpper(big20.Text(16))) {
		t.Errorf("openssl: %s", out)
	}
	for _, n := range []int64{0, 2, 127, 129, 69999} {
		if s, _ := serialOf(big.NewInt(n)); c.serials.has(s) {
			t.Errorf("%d is revoked", n)
		}
	}
	if empty, err := parseCRL(a.crl(t, nil), []*x509.Certificate{a.cert}); err != nil || len(empty.serials) != 0 {
		t.Errorf("an empty CRL: %v", err)
	}
}

func TestParseCRLRefuses(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	ext := func(critical bool, value []byte, oid ...int) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier(oid), Critical: critical, Value: value}
	}
	good := a.crl(t, nil, entry(big.NewInt(5)))
	changed := bytes.Clone(good)
	changed[bytes.LastIndex(changed, []byte{2, 1, 5})+2] = 6
	for _, c := range []struct {
		name, want string
		der        []byte
	}{
		{"garbage", "not a DER CRL", []byte("garbage")},
		{"trailing data", "not a DER CRL", append(bytes.Clone(good), 0)},
		{"a changed serial", "does not verify", changed},
		{"another CA of the same name", "", other.crl(t, nil)},
		{"delta", "delta", a.crl(t, func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{ext(true, []byte{2, 1, 1}, 2, 5, 29, 27)}
		})},
		{"a critical extension", "critical", a.crl(t, func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{ext(true, []byte{5, 0}, 1, 2, 3)} })},
		{"a critical entry extension", "critical", a.crl(t, nil, entry(big.NewInt(5), ext(true, []byte{5, 0}, 1, 2, 3)))},
		{"indirect", "indirect", a.crl(t, nil, entry(big.NewInt(5), ext(false, []byte{0x30, 0}, 2, 5, 29, 29)))},
		{"removeFromCRL", "removeFromCRL", a.crl(t, nil, x509.RevocationListEntry{SerialNumber: big.NewInt(5), RevocationTime: time.Unix(1e9, 0), ReasonCode: 8})},
		{"a serial of 21 octets", "20 octets", a.crl(t, nil, entry(new(big.Int).Lsh(big.NewInt(1), 160)))},
		{"a negative serial", "20 octets", a.crl(t, nil, entry(big.NewInt(-5)))},
	} {
		got, err := parseCRL(c.der, []*x509.Certificate{a.cert})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

// BenchmarkCompareCRL reads and verifies a CRL of a million entries, ours beside the standard library, and looks a serial up in it.
func BenchmarkCompareCRL(b *testing.B) {
	a := newAuthority(b)
	const million = 1_000_000
	entries := make([]x509.RevocationListEntry, million)
	for i := range entries {
		raw := make([]byte, 20)
		_, _ = rand.Read(raw)
		raw[0] = raw[0]&0x7f | 1
		entries[i] = entry(new(big.Int).SetBytes(raw))
		entries[i].ReasonCode = 1
	}
	der := a.crl(b, nil, entries...)
	entries = nil
	cas := []*x509.Certificate{a.cert}
	timed := func(do func() error) func() (float64, error) {
		return func() (float64, error) {
			runtime.GC()
			start := time.Now()
			err := do()
			return million / time.Since(start).Seconds(), err
		}
	}
	var c *crl
	ours := func() (err error) {
		c, err = parseCRL(der, cas)
		return err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := ours(); err != nil {
		b.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	bench.Figure("crl_allocated_per_million", float64(after.TotalAlloc-before.TotalAlloc)/1e6, "MB")
	bench.Figure("crl_kept_per_million", float64(len(c.serials)*len(serial{}))/1e6, "MB")
	bench.Compare(b, "crl_entries", "entries/s",
		bench.Side{Name: "crl_entries_ours", Rate: timed(ours)},
		bench.Side{Name: "crl_entries_standard_library", Rate: timed(func() error {
			l, err := x509.ParseRevocationList(der)
			if err != nil {
				return err
			}
			return l.CheckSignatureFrom(a.cert)
		})})
	v := &View{officers: &Repository{}, crls: map[ID]*crl{IssuerID(a.cert): c}}
	n := big.NewInt(12345678901)
	const lookups = 1_000_000
	start := time.Now()
	for range lookups {
		if v.Revoked(a.cert, n) {
			b.Fatal("revoked")
		}
	}
	bench.Figure("crl_lookup", float64(time.Since(start).Nanoseconds())/lookups, "ns")
}
