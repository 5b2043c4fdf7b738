package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

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

// crlSigners are CAs of every kind of key, with the algorithms that each signs lists with.
func crlSigners(t testing.TB) (list []struct {
	name string
	authority
	algorithm x509.SignatureAlgorithm
}) {
	t.Helper()
	add := func(key crypto.Signer, algorithms ...x509.SignatureAlgorithm) {
		for _, algorithm := range algorithms {
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
			list = append(list, struct {
				name string
				authority
				algorithm x509.SignatureAlgorithm
			}{algorithm.String(), authority{cert, key}, algorithm})
		}
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		add(key, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	add(rsaKey, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	add(edKey, x509.PureEd25519)
	return list
}

// TestCRLSignatures: a signature that was verified piece by piece is good exactly where crypto/x509, given the whole list, says so: of every algorithm, by every
// key, for changed bytes, for another algorithm's name, and for CAs that may not sign lists.
func TestCRLSignatures(t *testing.T) {
	all := crlSigners(t)
	good, tried := 0, 0
	judge := func(name string, der []byte, ca *x509.Certificate) {
		t.Helper()
		tried++
		list, err := x509.ParseRevocationList(der)
		want := err == nil && list.CheckSignatureFrom(ca) == nil
		_, err = parseCRL(der, []*x509.Certificate{ca})
		if (err == nil) != want {
			t.Errorf("%s by %T: %v, and crypto/x509 says %v", name, ca.PublicKey, err, want)
		}
		if want {
			good++
		}
	}
	for _, s := range all {
		der := s.crl(t, func(l *x509.RevocationList) { l.SignatureAlgorithm = s.algorithm }, entry(big.NewInt(5)), entry(big.NewInt(6)))
		judge(s.name, der, s.cert)
		for _, other := range all {
			if other.cert.PublicKeyAlgorithm != s.cert.PublicKeyAlgorithm {
				judge(s.name, der, other.cert)
			}
		}
		// Every byte in the soak form; else one in seven, others for each algorithm.
		first, step := len(s.name)%7, 7
		if os.Getenv("HANAPER_SOAK") != "" {
			first, step = 0, 1
		}
		for i := first; i < len(der); i += step {
			changed := bytes.Clone(der)
			changed[i] ^= 1
			judge(s.name+" with a changed byte", changed, s.cert)
		}
		// The algorithm's name stands twice, and says which hash and padding are meant.
		oid := func(a x509.SignatureAlgorithm) []byte {
			for _, o := range all {
				if o.algorithm == a {
					list, err := x509.ParseRevocationList(o.crl(t, func(l *x509.RevocationList) { l.SignatureAlgorithm = a }))
					if err != nil {
						t.Fatal(err)
					}
					in := cryptobyte.String(list.RawTBSRevocationList)
					var body, id cryptobyte.String
					if !in.ReadASN1(&body, cbasn1.SEQUENCE) || !body.SkipASN1(cbasn1.INTEGER) || !body.ReadASN1Element(&id, cbasn1.SEQUENCE) {
						t.Fatal("no algorithm")
					}
					return id
				}
			}
			return nil
		}
		own := oid(s.algorithm)
		for _, other := range all {
			if name := oid(other.algorithm); len(name) == len(own) {
				judge(s.name+" called "+other.name, bytes.ReplaceAll(der, own, name), s.cert)
			}
		}
		for name, change := range map[string]func(*x509.Certificate){
			"without cRLSign":  func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign },
			"of no key usage":  func(c *x509.Certificate) { c.KeyUsage = 0 },
			"that is no CA":    func(c *x509.Certificate) { c.IsCA = false },
			"without its kind": func(c *x509.Certificate) { c.BasicConstraintsValid = false },
			"of version 1":     func(c *x509.Certificate) { c.Version, c.BasicConstraintsValid = 1, false },
		} {
			ca := *s.cert
			change(&ca)
			judge(s.name+" by a CA "+name, der, &ca)
		}
	}
	// By the CA itself, by one of no key usage, and by one of version 1, at least.
	if good < 3*len(all) || tried < 1000 {
		t.Errorf("%d good ones of %d", good, tried)
	}
}

// strictEntry is an entry as RFC 5280 has it, for encoding/asn1, which is another reader than ours and crypto/x509's.
type strictEntry struct {
	Serial     *big.Int
	Time       asn1.RawValue
	Extensions []pkix.Extension `asn1:"optional"`
}

// whyRefused says why a list that crypto/x509 reads is none for us; "" for nothing.
func whyRefused(der []byte, l *x509.RevocationList, ca *x509.Certificate) string {
	switch {
	case len(l.Raw) != len(der):
		return "something follows it"
	case l.Number == nil || l.Number.Sign() < 0 || l.Number.BitLen() > 8*MaxCRLNumberOctets:
		return "its number"
	case l.NextUpdate.IsZero() || !l.NextUpdate.After(l.ThisUpdate):
		return "its dates"
	case !bytes.Equal(l.RawIssuer, ca.RawSubject):
		return "its issuer"
	case len(l.AuthorityKeyId) > 0 && len(ca.SubjectKeyId) > 0 && !bytes.Equal(l.AuthorityKeyId, ca.SubjectKeyId):
		return "its issuer's key"
	}
	for _, e := range l.Extensions {
		if e.Critical || e.Id.Equal(oidDeltaCRL) {
			return "an extension"
		}
	}
	for _, e := range l.RevokedCertificateEntries {
		if e.SerialNumber.Sign() < 0 || len(e.SerialNumber.Bytes()) > 20 || e.SerialNumber.BitLen() == 160 {
			return "a serial"
		}
		var s strictEntry
		if rest, err := asn1.Unmarshal(e.Raw, &s); err != nil || len(rest) > 0 {
			return "an entry"
		}
		if again, err := asn1.Marshal(s); err != nil || !bytes.Equal(again, e.Raw) {
			return "an entry that is not DER"
		}
		for _, x := range e.Extensions {
			reason := x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 21})
			if x.Critical || x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 29}) || reason && (len(x.Value) != 3 || x.Value[2] > 10 || x.Value[2] == 8) {
				return "an entry's extension"
			}
		}
	}
	return ""
}

// trickle reads a few bytes at a time, so that elements lie across its ends.
type trickle struct {
	r io.Reader
	n int
}

func (s *trickle) Read(p []byte) (int, error) {
	s.n = s.n%7 + 1
	return s.r.Read(p[:min(s.n, len(p))])
}

// agree holds what we make of a list, whole and in pieces, to what crypto/x509 makes of it. The signature is left out, which TestCRLSignatures judges.
func agree(t testing.TB, der []byte, ca *x509.Certificate) (accepted bool) {
	t.Helper()
	cas := []*x509.Certificate{ca}
	c, err := parseUnsignedCRL(der, cas, true)
	pieces, errPieces := readCRL(&trickle{r: bytes.NewReader(der)}, int64(len(der)), cas, true)
	if (err == nil) != (errPieces == nil) || err != nil && err.Error() != errPieces.Error() {
		t.Fatalf("whole: %v; in pieces: %v", err, errPieces)
	}
	list, theirs := x509.ParseRevocationList(der)
	if err != nil {
		if theirs == nil && whyRefused(der, list, ca) == "" {
			t.Fatalf("refused, and nothing is wrong with it: %v", err)
		}
		return false
	}
	if theirs != nil {
		t.Fatalf("accepted, and crypto/x509 says %v", theirs)
	}
	if why := whyRefused(der, list, ca); why != "" {
		t.Fatalf("accepted, in spite of %s", why)
	}
	want := map[serial]bool{}
	for _, e := range list.RevokedCertificateEntries {
		s, _ := serialOf(e.SerialNumber)
		want[s] = true
	}
	for _, got := range []*crl{c, pieces} {
		if len(got.serials) != len(want) || got.info.Entries != len(want) || got.info.Number.Cmp(list.Number) != 0 || !got.info.ThisUpdate.Equal(list.ThisUpdate) || !got.info.NextUpdate.Equal(list.NextUpdate) ||
			!slices.IsSortedFunc(got.serials, compareSerials) {
			t.Fatalf("%+v with %d serials, not %d", got.info, len(got.serials), len(want))
		}
		for s := range want {
			if !got.serials.has(s) {
				t.Fatalf("%x is missing", s)
			}
		}
	}
	return true
}

// oddLists are lists that a reader by hand could take otherwise than crypto/x509.
func oddLists(t testing.TB, a authority) map[string][]byte {
	t.Helper()
	raw := func(tag cbasn1.Tag, parts ...[]byte) []byte {
		var b cryptobyte.Builder
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(slices.Concat(parts...)) })
		return b.BytesOrPanic()
	}
	plain := a.crl(t, nil)
	in := cryptobyte.String(plain)
	var outer, tbs cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		t.Fatal("no CRL")
	}
	body := tbs
	for _, tag := range []cbasn1.Tag{cbasn1.INTEGER, cbasn1.SEQUENCE, cbasn1.SEQUENCE, cbasn1.UTCTime, cbasn1.UTCTime} {
		if !body.SkipASN1(tag) {
			t.Fatal("no CRL")
		}
	}
	front := tbs[:len(tbs)-len(body)]
	list := func(parts ...[]byte) []byte {
		return raw(cbasn1.SEQUENCE, raw(cbasn1.SEQUENCE, front, slices.Concat(parts...)), outer)
	}
	entries := func(parts ...[]byte) []byte { return list(raw(cbasn1.SEQUENCE, parts...), body) }
	number := func(b ...byte) []byte { return raw(cbasn1.INTEGER, b) }
	when := raw(cbasn1.UTCTime, []byte("300101000000Z"))
	one := func(parts ...[]byte) []byte {
		return raw(cbasn1.SEQUENCE, slices.Concat([][]byte{number(5), when}, parts)...)
	}
	ext := func(oid []byte, parts ...[]byte) []byte {
		return raw(cbasn1.SEQUENCE, raw(cbasn1.SEQUENCE, slices.Concat([][]byte{raw(cbasn1.OBJECT_IDENTIFIER, oid)}, parts)...))
	}
	octets := func(b ...byte) []byte { return raw(cbasn1.OCTET_STRING, b) }
	date := func(tag cbasn1.Tag, s string) []byte {
		return entries(raw(cbasn1.SEQUENCE, number(5), raw(tag, []byte(s))))
	}
	return map[string][]byte{
		"+empty list": entries(), "+no list": plain, "+one": entries(one()), "two lists": list(raw(cbasn1.SEQUENCE, one()), raw(cbasn1.SEQUENCE, one()), body),
		"+twice": entries(one(), one()), "no time": entries(raw(cbasn1.SEQUENCE, number(5))), "a list of something": entries([]byte{5, 0}), "cut in an entry": entries(one()[:9]), "an entry's length": entries([]byte{0x30, 0x81, 5, 2, 1, 5, 5, 0}),
		"+reason": entries(one(ext(derReason, octets(0x0a, 1, 1)))), "reason 8": entries(one(ext(derReason, octets(0x0a, 1, 8)))), "reason 11": entries(one(ext(derReason, octets(0x0a, 1, 11)))),
		"a long reason": entries(one(ext(derReason, octets(0x0a, 2, 0, 1)))), "two reasons": entries(one(ext(derReason, octets(0x0a, 1, 1, 0x0a, 1, 1)))), "indirect": entries(one(ext(derCertificateIssuer, octets(0x30, 0)))),
		"critical": entries(one(ext([]byte{42, 3}, []byte{1, 1, 0xff}, octets(5, 0)))), "false": entries(one(ext([]byte{42, 3}, []byte{1, 1, 0}, octets(5, 0)))), "true as 1": entries(one(ext([]byte{42, 3}, []byte{1, 1, 1}, octets(5, 0)))),
		"+another extension": entries(one(ext([]byte{0x55, 0x1d, 24}, octets(5, 0))), one(ext([]byte{0x55, 0x1d, 24}, octets(5, 0)))), "an oid that is none": entries(one(ext([]byte{42, 0x80, 1}, octets(5, 0)))), "an empty oid": entries(one(ext(nil, octets(5, 0)))),
		"an oid cut off": entries(one(ext([]byte{42, 0x81}, octets(5, 0)))), "+no extension": entries(one(raw(cbasn1.SEQUENCE))), "more in an extension": entries(one(ext([]byte{42, 3}, octets(5, 0), []byte{5, 0}))),
		"more in an entry": entries(one([]byte{5, 0})), "more after extensions": entries(one(ext([]byte{42, 3}, octets(5, 0)), []byte{5, 0})),
		"+serial 0": entries(raw(cbasn1.SEQUENCE, number(0), when)), "serial -1": entries(raw(cbasn1.SEQUENCE, number(0xff), when)), "serial 0005": entries(raw(cbasn1.SEQUENCE, number(0, 5), when)), "no serial": entries(raw(cbasn1.SEQUENCE, number(), when)),
		"+20 octets": entries(raw(cbasn1.SEQUENCE, number(bytes.Repeat([]byte{0x7f}, 20)...), when)), "21 octets": entries(raw(cbasn1.SEQUENCE, number(bytes.Repeat([]byte{0x7f}, 21)...), when)),
		"20 octets and a sign": entries(raw(cbasn1.SEQUENCE, number(append([]byte{0}, bytes.Repeat([]byte{0xff}, 20)...)...), when)),
		"month 0":              date(cbasn1.UTCTime, "300001000000Z"), "month 13": date(cbasn1.UTCTime, "301301000000Z"), "day 0": date(cbasn1.UTCTime, "300100000000Z"), "+day 31": date(cbasn1.UTCTime, "300131000000Z"),
		"February 30": date(cbasn1.UTCTime, "300230000000Z"), "hour 24": date(cbasn1.UTCTime, "300101240000Z"), "minute 60": date(cbasn1.UTCTime, "300101006000Z"), "second 60": date(cbasn1.UTCTime, "300101000060Z"),
		"letters": date(cbasn1.UTCTime, "3001010000a0Z"), "no Z": date(cbasn1.UTCTime, "3001010000000"), "empty time": date(cbasn1.UTCTime, ""), "+time without seconds": date(cbasn1.UTCTime, "3001010000Z"), "+time with zone": date(cbasn1.UTCTime, "300101000000+0100"),
		"+year 2050": date(cbasn1.GeneralizedTime, "20500101000000Z"), "year in two": date(cbasn1.GeneralizedTime, "500101000000Z"), "fractions": date(cbasn1.GeneralizedTime, "20500101000000.5Z"), "another kind of time": date(cbasn1.INTEGER, "1"),
		"trailing": append(bytes.Clone(plain), 0), "cut off": plain[:len(plain)-1], "nothing": nil, "one byte": {0x30}, "indefinite": append([]byte{0x30, 0x80}, outer...), "long form": append([]byte{0x30, 0x83, 0, 0, 1}, plain[4:]...),
		"+a large entry": entries(one(ext([]byte{42, 3}, octets(make([]byte, 3*windowSize)...)))),
	}
}

// TestCRLAgreesWithStandardLibrary: of odd lists we accept those whose name begins with +. What crypto/x509 does not read is not among them; of what it
// does read, encoding/asn1 says which are not DER.
func TestCRLAgreesWithStandardLibrary(t *testing.T) {
	a := newAuthority(t)
	for name, der := range oddLists(t, a) {
		t.Run(name, func(t *testing.T) {
			if accepted := agree(t, der, a.cert); accepted != strings.HasPrefix(name, "+") {
				t.Errorf("accepted: %v", accepted)
			}
		})
	}
	// Many, of lengths that differ, in no order, across many windows.
	var entries []x509.RevocationListEntry
	for i := range 40_000 {
		e := entry(new(big.Int).SetBytes(binary.BigEndian.AppendUint64(nil, uint64(i)*0x9e3779b97f4a7c15>>(i%60))))
		if e.SerialNumber.Sign() == 0 {
			continue
		}
		e.ReasonCode = i % 7
		entries = append(entries, e)
	}
	if !agree(t, a.crl(t, nil, entries...), a.cert) {
		t.Error("refused")
	}
}

// FuzzCRLAgrees: whatever the bytes, ours and crypto/x509 agree, whole and in pieces.
func FuzzCRLAgrees(f *testing.F) {
	a := newAuthority(f)
	for _, der := range oddLists(f, a) {
		if len(der) < windowSize {
			f.Add(der)
		}
	}
	// Kept inputs are another run's CA's.
	ca := *a.cert
	ca.SubjectKeyId = nil
	f.Fuzz(func(t *testing.T, der []byte) { agree(t, der, &ca) })
}

// TestCRLTable: the table is made once for lists as they are, of entries of about one length, and never again and again for others.
func TestCRLTable(t *testing.T) {
	a := newAuthority(t)
	var like, unlike []x509.RevocationListEntry
	for i := range 20_000 {
		e := entry(new(big.Int).SetBytes(append(bytes.Repeat([]byte{byte(1 + i%100)}, 16), byte(i>>8), byte(i))))
		if i%100 == 99 {
			e.SerialNumber = big.NewInt(int64(i)) // some shorter ones
		}
		like = append(like, e)
		if i%500 == 0 {
			e.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 20_000)}}
		}
		unlike = append(unlike, e)
	}
	allocated := func(entries []x509.RevocationListEntry) float64 {
		der := a.crl(t, nil, entries...)
		return float64(testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseUnsignedCRL(der, []*x509.Certificate{a.cert}, true); err != nil {
					b.Fatal(err)
				}
			}
		}).AllocedBytesPerOp())
	}
	table := float64(len(like) * len(serial{}))
	if is := allocated(like); is > 1.1*table+2*windowSize {
		t.Errorf("%.0f bytes for a table of %.0f", is, table)
	}
	// A quarter more each time sums up to five times as much, and the window is one more.
	if is := allocated(unlike); is > 7*table+4*windowSize {
		t.Errorf("%.0f bytes for a table of %.0f", is, table)
	}
}
