package csr

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

// raw is a request whose every part a case can spoil; sign makes it valid but for what was spoilt.
type raw struct {
	version         int64
	subject         []byte
	spki            []byte
	attributes      []byte // content of [0]
	noAttributes    bool
	alg             x509.SignatureAlgorithm
	algDER          []byte // nil: alg's
	after, afterTBS []byte
	key             crypto.Signer
}

func rdn(oid asn1.ObjectIdentifier, tag cbasn1.Tag, value string) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(atv(oid, tag, value)) })
	return b.BytesOrPanic()
}

func atv(oid asn1.ObjectIdentifier, tag cbasn1.Tag, value string) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
	})
	return b.BytesOrPanic()
}

func tlv(tag cbasn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	return b.BytesOrPanic()
}

var (
	oidCN = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidO  = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidC  = asn1.ObjectIdentifier{2, 5, 4, 6}
)

func utf8CN(v string) []byte { return tlv(cbasn1.SEQUENCE, rdn(oidCN, cbasn1.UTF8String, v)) }

func oidDER(oid asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	return b.BytesOrPanic()
}

func attribute(oid asn1.ObjectIdentifier, values ...[]byte) []byte {
	return tlv(cbasn1.SEQUENCE, oidDER(oid), tlv(cbasn1.SET, values...))
}

func extension(oid asn1.ObjectIdentifier, value []byte) []byte {
	return tlv(cbasn1.SEQUENCE, oidDER(oid), tlv(cbasn1.OCTET_STRING, value))
}

func extensions(exts ...[]byte) []byte {
	return attribute(oidExtensionRequest, tlv(cbasn1.SEQUENCE, exts...))
}

func san(names ...[]byte) []byte {
	return extensions(extension(oidSAN, tlv(cbasn1.SEQUENCE, names...)))
}

func general(tag uint8, value string) []byte { return tlv(cbasn1.Tag(tag), []byte(value)) }

func (r *raw) der(t testing.TB) []byte {
	t.Helper()
	parts := [][]byte{{2, 1, byte(r.version)}, r.subject, r.spki}
	if !r.noAttributes {
		parts = append(parts, tlv(0xa0, r.attributes))
	}
	tbs := tlv(cbasn1.SEQUENCE, append(parts, r.afterTBS)...)
	sig, err := SignMessage(context.Background(), rand.Reader, r.key, r.alg, tbs)
	if err != nil {
		t.Fatal(err)
	}
	alg := r.algDER
	if alg == nil {
		alg = AlgorithmIdentifier(r.alg)
	}
	return append(tlv(cbasn1.SEQUENCE, tbs, alg, tlv(cbasn1.BIT_STRING, []byte{0}, sig)), r.after...)
}

func good(t testing.TB, alg string) *raw {
	k := newKey(t, alg)
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	sig := DefaultSignature(k.Public())
	if alg == "P-224" {
		sig = x509.ECDSAWithSHA256
	}
	return &raw{subject: utf8CN("dev-0001"), spki: spki, alg: sig, key: k}
}

var refusals = []struct {
	name  string
	want  error
	spoil func(*testing.T, *raw)
}{
	{"version 1", ErrMalformed, func(t *testing.T, r *raw) { r.version = 1 }},
	{"content after the attributes", ErrMalformed, func(t *testing.T, r *raw) { r.afterTBS = []byte{5, 0} }},
	{"trailing octet", ErrTrailingData, func(t *testing.T, r *raw) { r.after = []byte{0} }},
	{"sha-1", ErrSignature, func(t *testing.T, r *raw) { r.algDER = []byte(unhex("300906072a8648ce3d0401")) }},
	{"another key's signature", ErrPossession, func(t *testing.T, r *raw) { r.key = newKey(t, "P-256") }},
	{"P-224", ErrKeyType, func(t *testing.T, r *raw) { *r = *good(t, "P-224") }},
	{"compressed point", ErrKeyType, func(t *testing.T, r *raw) {
		point := r.spki[len(r.spki)-65:]
		r.spki = append([]byte(unhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")), append([]byte{2 + point[64]&1}, point[1:33]...)...)
	}},
	{"an RSA key with a third number", ErrMalformed, func(t *testing.T, r *raw) {
		*r = *good(t, "RSA-2048")
		var key asn1.RawValue
		if _, err := asn1.Unmarshal(x509.MarshalPKCS1PublicKey(r.key.Public().(*rsa.PublicKey)), &key); err != nil {
			t.Fatal(err)
		}
		three := tlv(cbasn1.SEQUENCE, key.Bytes, []byte{2, 1, 1})
		r.spki = tlv(cbasn1.SEQUENCE, []byte(unhex("300d06092a864886f70d0101010500")), tlv(cbasn1.BIT_STRING, []byte{0}, three))
	}},
	{"point off the curve", ErrKeyType, func(t *testing.T, r *raw) { r.spki = bytes.Clone(r.spki); r.spki[len(r.spki)-1] ^= 1 }},
	{"empty subject", ErrNoCommonName, func(t *testing.T, r *raw) { r.subject = tlv(cbasn1.SEQUENCE) }},
	{"no CN", ErrNoCommonName, func(t *testing.T, r *raw) {
		r.subject = tlv(cbasn1.SEQUENCE, rdn(oidO, cbasn1.UTF8String, "CN=victim"))
	}},
	{"two CNs", ErrCommonNames, func(t *testing.T, r *raw) {
		r.subject = tlv(cbasn1.SEQUENCE, rdn(oidCN, cbasn1.UTF8String, "a"), rdn(oidCN, cbasn1.UTF8String, "b"))
	}},
	{"multi-valued", ErrMultiValued, func(t *testing.T, r *raw) {
		r.subject = tlv(cbasn1.SEQUENCE, tlv(cbasn1.SET, atv(oidCN, cbasn1.UTF8String, "a"), atv(oidO, cbasn1.UTF8String, "b")))
	}},
	{"O beside CN", ErrSubject, func(t *testing.T, r *raw) {
		r.subject = tlv(cbasn1.SEQUENCE, rdn(oidO, cbasn1.UTF8String, "o"), rdn(oidCN, cbasn1.UTF8String, "a"))
	}},
	{"unknown attribute", ErrSubject, func(t *testing.T, r *raw) {
		r.subject = tlv(cbasn1.SEQUENCE, rdn(asn1.ObjectIdentifier{1, 2, 3}, cbasn1.UTF8String, "x"), rdn(oidCN, cbasn1.UTF8String, "a"))
	}},
	{"teletex", ErrString, func(t *testing.T, r *raw) { r.subject = tlv(cbasn1.SEQUENCE, rdn(oidCN, cbasn1.T61String, "a")) }},
	{"bmp", ErrString, func(t *testing.T, r *raw) { r.subject = tlv(cbasn1.SEQUENCE, rdn(oidCN, 30, "\x00a")) }},
	{"ia5", ErrString, func(t *testing.T, r *raw) { r.subject = tlv(cbasn1.SEQUENCE, rdn(oidCN, cbasn1.IA5String, "a")) }},
	{"printable with @", ErrString, func(t *testing.T, r *raw) {
		r.subject = tlv(cbasn1.SEQUENCE, rdn(oidCN, cbasn1.PrintableString, "a@b"))
	}},
	{"not utf-8", ErrString, func(t *testing.T, r *raw) { r.subject = utf8CN("a\xff") }},
	{"NUL", ErrString, func(t *testing.T, r *raw) { r.subject = utf8CN("victim\x00.evil") }},
	{"newline", ErrString, func(t *testing.T, r *raw) { r.subject = utf8CN("a\nb") }},
	{"right-to-left mark", ErrString, func(t *testing.T, r *raw) { r.subject = utf8CN("a\u202eb") }},
	{"final space", ErrString, func(t *testing.T, r *raw) { r.subject = utf8CN("a ") }},
	{"empty CN", ErrCommonName, func(t *testing.T, r *raw) { r.subject = utf8CN("") }},
	{"65 characters", ErrCommonName, func(t *testing.T, r *raw) { r.subject = utf8CN(strings.Repeat("a", 65)) }},
	{"slash", ErrCommonName, func(t *testing.T, r *raw) { r.subject = utf8CN("a/b") }},
	{"backslash", ErrCommonName, func(t *testing.T, r *raw) { r.subject = utf8CN(`a\b`) }},
	{"path step", ErrCommonName, func(t *testing.T, r *raw) { r.subject = utf8CN("a..b") }},
	{"percent", ErrCommonName, func(t *testing.T, r *raw) { r.subject = utf8CN("a%2fb") }},
	{"not ASCII in a device", ErrCommonName, func(t *testing.T, r *raw) { r.subject = utf8CN("gerät") }},
	{"subject cut short", ErrMalformed, func(t *testing.T, r *raw) { r.subject = tlv(cbasn1.SEQUENCE, []byte{0x31, 0}) }},
	{"challengePassword", ErrRequestAttribute, func(t *testing.T, r *raw) {
		r.attributes = attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, tlv(cbasn1.UTF8String, []byte("secret")))
	}},
	{"microsoft extensions", ErrRequestAttribute, func(t *testing.T, r *raw) {
		r.attributes = attribute(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14}, tlv(cbasn1.SEQUENCE))
	}},
	{"extensionRequest twice", ErrDuplicate, func(t *testing.T, r *raw) {
		e := extensions(extension(oidSAN, tlv(cbasn1.SEQUENCE, general(0x82, "a.example"))))
		r.attributes = append(bytes.Clone(e), e...)
	}},
	{"two values", ErrDuplicate, func(t *testing.T, r *raw) {
		e := tlv(cbasn1.SEQUENCE, extension(oidSAN, tlv(cbasn1.SEQUENCE, general(0x82, "a.example"))))
		r.attributes = attribute(oidExtensionRequest, e, e)
	}},
	{"extension twice", ErrDuplicate, func(t *testing.T, r *raw) {
		e := extension(oidSAN, tlv(cbasn1.SEQUENCE, general(0x82, "a.example")))
		r.attributes = extensions(e, e)
	}},
	{"no extensions in the request", ErrMalformed, func(t *testing.T, r *raw) { r.attributes = extensions() }},
	{"explicit false", ErrMalformed, func(t *testing.T, r *raw) {
		r.attributes = extensions(tlv(cbasn1.SEQUENCE, oidDER(oidSAN), []byte{1, 1, 0}, tlv(cbasn1.OCTET_STRING, []byte{0x30, 0})))
	}},
	{"unknown extension", ErrExtension, func(t *testing.T, r *raw) {
		r.attributes = extensions(extension(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}))
	}},
	{"basicConstraints", ErrExtension, func(t *testing.T, r *raw) {
		r.attributes = extensions(extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 3, 1, 1, 0xff}))
	}},
	{"dns twice", ErrDuplicate, func(t *testing.T, r *raw) { r.attributes = san(general(0x82, "a.example"), general(0x82, "A.example")) }},
	{"dns wildcard", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0x82, "*.example")) }},
	{"dns with NUL", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0x82, "a\x00.example")) }},
	{"ip of 5 octets", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0x87, "12345")) }},
	{"empty san", ErrMalformed, func(t *testing.T, r *raw) { r.attributes = san() }},
	{"email", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0x81, "a@example.com")) }},
	{"uri", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0x86, "urn:hanaper:station:a")) }},
	{"otherName", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0xa0, "")) }},
	{"x400", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0xa3, "")) }},
	{"directoryName", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(tlv(0xa4, tlv(cbasn1.SEQUENCE))) }},
	{"ediPartyName", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0xa5, "")) }},
	{"registeredID", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0x88, "\x2a\x03")) }},
	{"unknown tag", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0x9e, "x")) }},
	{"universal tag", ErrSAN, func(t *testing.T, r *raw) { r.attributes = san(general(0x0c, "x")) }},
}

// permissive allows names, so that a case fails for its own reason and not for the kind of name.
func permissive(t testing.TB, name string) *Policy {
	c := PolicyConfig{KeyAlgorithms: keyAlgorithms, CommonName: DeviceName}
	if strings.HasPrefix(name, "dns") || strings.HasPrefix(name, "ip") || strings.Contains(name, "twice") || strings.Contains(name, "two values") {
		c.SANs = []string{"dns", "ip"}
	}
	p, err := NewPolicy(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseRefuses(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			r := good(t, "P-256")
			c.spoil(t, r)
			got, err := Parse(r.der(t), permissive(t, c.name))
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if got != nil {
				t.Error("refused, and a request all the same")
			}
			if advice.Hint(err) == "" || advice.KindOf(err) == advice.Failed {
				t.Error("the refusal has no advice")
			}
		})
	}
}

// TestKeyTypeOfThePolicy: a key is certified only if the policy names its algorithm.
func TestKeyTypeOfThePolicy(t *testing.T) {
	for _, allowed := range []string{"P-256", "P-384"} {
		p, err := NewPolicy(PolicyConfig{KeyAlgorithms: []string{allowed}})
		if err != nil {
			t.Fatal(err)
		}
		for _, alg := range []string{"P-256", "P-384", "Ed25519"} {
			r, err := Parse(good(t, alg).der(t), p)
			if alg == allowed && err != nil || alg != allowed && (!errors.Is(err, ErrKeyType) || r != nil) {
				t.Errorf("%s where %s is allowed: %v", alg, allowed, err)
			}
		}
	}
}

func TestParseInput(t *testing.T) {
	der := good(t, "P-256").der(t)
	text := string(PEM(der))
	for name, c := range map[string]struct {
		data string
		want error
	}{
		"der":             {string(der), nil},
		"pem":             {text, nil},
		"old pem":         {strings.ReplaceAll(text, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"), nil},
		"space around":    {"\n " + text + "\r\n", nil},
		"empty":           {"", ErrMalformed},
		"garbage":         {"hello", ErrMalformed},
		"certificate pem": {strings.ReplaceAll(text, "CERTIFICATE REQUEST", "CERTIFICATE"), ErrMalformed},
		"two":             {text + text, ErrTrailingData},
		"headers":         {strings.Replace(text, "REQUEST-----\n", "REQUEST-----\nA: b\n\n", 1), ErrMalformed},
		"broken pem":      {text[:100], ErrMalformed},
		"der and newline": {string(der) + "\n", ErrTrailingData},
		"too long":        {strings.Repeat("A", maxPEM+1), ErrTooLarge},
		"long der":        {strings.Repeat("\x30\x01", maxDER/2+1), ErrTooLarge},
	} {
		r, err := Parse([]byte(c.data), DevicePolicy())
		if !errors.Is(err, c.want) || (r == nil) == (c.want == nil) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if _, err := Parse(der, nil); !errors.Is(err, ErrPolicy) {
		t.Error("no policy:", err)
	}
}

// TestEveryByte changes each octet of a request: none passes, none panics.
func TestEveryByte(t *testing.T) {
	der := good(t, "Ed25519").der(t)
	for i := range der {
		for _, x := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(der)
			bad[i] ^= x
			if _, err := Parse(bad, DevicePolicy()); err == nil {
				t.Errorf("octet %d changed by %x passes", i, x)
			}
		}
	}
}

func TestCreateAndParse(t *testing.T) {
	u, _ := url.Parse("https://example.com/a")
	tpl := Template{Subject: pkix.Name{CommonName: "srv.example.com", Organization: []string{"Exämple, Inc."}, Country: []string{"DE"}},
		DNSNames: []string{"srv.example.com"}, IPs: []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")}, URIs: []*url.URL{u}, EmailAddresses: []string{"a@example.com"}}
	p, err := NewPolicy(PolicyConfig{KeyAlgorithms: keyAlgorithms, Attributes: []string{"O", "C"}, SANs: []string{"dns", "ip", "uri", "email"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-2048"} {
		k := newKey(t, alg)
		der, err := Create(rand.Reader, k, tpl)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Parse(PEM(der), p)
		if err != nil {
			t.Fatal(alg, err)
		}
		if r.CommonName() != "srv.example.com" || len(r.IPs()) != 2 || len(r.URIs()) != 1 || r.DNSNames()[0] != "srv.example.com" || r.EmailAddresses()[0] != "a@example.com" ||
			r.Subject().Organization[0] != "Exämple, Inc." || !bytes.Equal(r.Raw(), der) || r.AsksCA() {
			t.Errorf("%s: %+v", alg, r)
		}
		std, err := x509.ParseCertificateRequest(der)
		if err != nil || std.CheckSignature() != nil || std.Subject.String() != r.Subject().String() || !bytes.Equal(std.RawSubject, r.RawSubject()) || !bytes.Equal(std.RawSubjectPublicKeyInfo, r.SPKI()) {
			t.Errorf("%s: crypto/x509 reads %+v, %v", alg, std, err)
		}
	}
	if _, err := Create(rand.Reader, newKey(t, "P-256"), Template{Subject: pkix.Name{CommonName: "a\x00"}}); err == nil {
		t.Error("a bad name was asked for")
	}
	if _, err := Create(rand.Reader, newKey(t, "P-256"), Template{Subject: pkix.Name{CommonName: "a"}, DNSNames: []string{"*"}}); err == nil {
		t.Error("a bad host name was asked for")
	}
	der, err := Create(rand.Reader, newKey(t, "P-384"), Template{Subject: pkix.Name{CommonName: "Sub"}, CA: true})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Parse(der, CAPolicy()); err != nil || !r.AsksCA() {
		t.Error(err)
	}
	if _, err := Parse(der, DevicePolicy()); !errors.Is(err, ErrExtension) {
		t.Error(err)
	}
	if _, err := Parse(der, ServerPolicy()); !errors.Is(err, ErrExtension) {
		t.Error(err)
	}
}

func TestBuiltinPolicies(t *testing.T) {
	der := good(t, "P-256").der(t)
	for _, p := range []*Policy{DevicePolicy(), ClientPolicy(), ServerPolicy(), CAPolicy()} {
		if _, err := Parse(der, p); err != nil {
			t.Error(err)
		}
	}
	for name, yaml := range map[string]string{
		"no algorithms": "attributes: [O]", "unknown algorithm": "key_algorithms: [DSA]", "unknown attribute": "key_algorithms: [P-256]\nattributes: [X]",
		"CN": "key_algorithms: [P-256]\nattributes: [CN]", "san": "key_algorithms: [P-256]\nsans: [otherName]", "extension": "key_algorithms: [P-256]\nextensions: [x]",
		"regexp": "key_algorithms: [P-256]\ncommon_name: '('", "unknown key": "key_algorithms: [P-256]\ncommonname: a",
	} {
		var c PolicyConfig
		err := strict.Unmarshal("policy.yaml", []byte(yaml), &c)
		if err == nil {
			_, err = NewPolicy(c)
		}
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// openssl runs the peer; a machine without it fails the test.
func openssl(t testing.TB, args ...string) []byte {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return out
}

// TestOpenSSLRequests reads requests that openssl made.
func TestOpenSSLRequests(t *testing.T) {
	dir := t.TempDir()
	ec := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	for name, c := range map[string]struct {
		args   []string
		policy *Policy
		want   error
	}{
		"p256":        {append([]string{"-subj", "/CN=dev-1"}, ec...), DevicePolicy(), nil},
		"p384":        {[]string{"-subj", "/CN=dev-1", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"}, DevicePolicy(), nil},
		"ed25519":     {[]string{"-subj", "/CN=dev-1", "-newkey", "ed25519"}, DevicePolicy(), nil},
		"rsa":         {[]string{"-subj", "/CN=dev-1", "-newkey", "rsa:2048"}, DevicePolicy(), nil},
		"rsa pss":     {[]string{"-subj", "/CN=dev-1", "-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"}, DevicePolicy(), nil},
		"rsa-pss key": {[]string{"-subj", "/CN=dev-1", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"}, DevicePolicy(), ErrSignature},
		"rsa 1024":    {[]string{"-subj", "/CN=dev-1", "-newkey", "rsa:1024"}, DevicePolicy(), ErrWeakKey},
		"rsa e=3":     {[]string{"-subj", "/CN=dev-1", "-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"}, DevicePolicy(), ErrWeakKey},
		"sha1":        {append([]string{"-subj", "/CN=dev-1", "-sha1"}, ec...), DevicePolicy(), ErrSignature},
		"ed448":       {[]string{"-subj", "/CN=dev-1", "-newkey", "ed448"}, DevicePolicy(), ErrSignature},
		"secp256k1":   {[]string{"-subj", "/CN=dev-1", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"}, DevicePolicy(), ErrKeyType},
		"explicit":    {append([]string{"-subj", "/CN=dev-1", "-pkeyopt", "ec_param_enc:explicit"}, ec...), DevicePolicy(), ErrKeyType},
		"org":         {append([]string{"-subj", "/O=x/CN=dev-1"}, ec...), DevicePolicy(), ErrSubject},
		"org, ca":     {append([]string{"-subj", "/C=DE/O=x/CN=Line 1 CA"}, ec...), CAPolicy(), nil},
		"multi":       {append([]string{"-multivalue-rdn", "-subj", "/O=x+CN=dev-1"}, ec...), CAPolicy(), ErrMultiValued},
		"two cn":      {append([]string{"-subj", "/CN=a/CN=b"}, ec...), CAPolicy(), ErrCommonNames},
		"dns":         {append([]string{"-subj", "/CN=a", "-addext", "subjectAltName=DNS:a.example"}, ec...), DevicePolicy(), ErrSAN},
		"dns, ip":     {append([]string{"-subj", "/CN=a", "-addext", "subjectAltName=DNS:a.example,IP:192.0.2.1"}, ec...), ServerPolicy(), nil},
		"other":       {append([]string{"-subj", "/CN=a", "-addext", "subjectAltName=otherName:1.2.3;UTF8:x"}, ec...), ServerPolicy(), ErrSAN},
		"rid":         {append([]string{"-subj", "/CN=a", "-addext", "subjectAltName=DNS:a.example,RID:1.2.3"}, ec...), ServerPolicy(), ErrSAN},
		"email":       {append([]string{"-subj", "/CN=a", "-addext", "subjectAltName=email:a@example.com"}, ec...), ServerPolicy(), ErrSAN},
		"eku":         {append([]string{"-subj", "/CN=a", "-addext", "extendedKeyUsage=serverAuth"}, ec...), ServerPolicy(), nil},
		"eku device":  {append([]string{"-subj", "/CN=a", "-addext", "extendedKeyUsage=clientAuth"}, ec...), DevicePolicy(), ErrExtension},
		"ca":          {append([]string{"-subj", "/CN=a", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign"}, ec...), CAPolicy(), nil},
		"ca, server":  {append([]string{"-subj", "/CN=a", "-addext", "basicConstraints=critical,CA:TRUE"}, ec...), ServerPolicy(), ErrExtension},
		"unknown":     {append([]string{"-subj", "/CN=a", "-addext", "1.2.3.4=ASN1:NULL"}, ec...), CAPolicy(), ErrExtension},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "_"))
			openssl(t, append([]string{"req", "-new", "-nodes", "-keyout", file + ".key", "-out", file}, c.args...)...)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := Parse(data, c.policy); !errors.Is(err, c.want) || (r == nil) == (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestOpenSSLReads has openssl verify requests that Create made.
func TestOpenSSLReads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "csr.pem")
	for _, alg := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-2048"} {
		der, err := Create(rand.Reader, newKey(t, alg), Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"a.example"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, PEM(der), 0o600); err != nil {
			t.Fatal(err)
		}
		out := string(openssl(t, "req", "-verify", "-noout", "-text", "-in", file))
		if !strings.Contains(out, "verify OK") || !strings.Contains(out, "CN = dev-1") || !strings.Contains(out, "DNS:a.example") {
			t.Errorf("%s: openssl reads\n%s", alg, out)
		}
	}
}

func seeds(t testing.TB) [][]byte {
	var out [][]byte
	for _, alg := range []string{"P-256", "Ed25519", "RSA-2048"} {
		der := good(t, alg).der(t)
		out = append(out, der, PEM(der))
	}
	r := good(t, "P-256")
	r.attributes = san(general(0x82, "a.example"), general(0x87, "\x0a\x00\x00\x01"), general(0x86, "urn:a:b"), general(0x81, "a@b.example"), tlv(0xa4, tlv(cbasn1.SEQUENCE)))
	out = append(out, r.der(t))
	r = good(t, "P-256")
	r.attributes = attribute(oidEvidence, bundle(10))
	for _, f := range foreignRequests(t) {
		data, err := os.ReadFile("testdata/requests/" + f.File)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data)
	}
	return append(out, r.der(t))
}

func TestSeeds(t *testing.T) {
	if len(seeds(t)) == 0 {
		t.Error("the fuzz targets have no seed")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	p, err := NewPolicy(PolicyConfig{KeyAlgorithms: keyAlgorithms, Attributes: []string{"O", "C"}, SANs: []string{"dns", "ip", "email", "uri"}, Extensions: []string{"basicConstraints", "keyUsage", "extKeyUsage", "subjectKeyIdentifier"}, CA: true, Evidence: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := Parse(data, KeptPolicy()); (r == nil) == (err == nil) || r != nil && len(r.Asks()) > 0 {
			t.Fatal("neither request nor error, or both, or something is taken that is ignored")
		}
		r, err := Parse(data, p)
		if (r == nil) == (err == nil) {
			t.Fatal("neither request nor error, or both")
		}
		if r == nil {
			return
		}
		// What we read crypto/x509 reads the same, except a request without attributes: there it is OpenSSL that reads it (TestRequestsOfOthers).
		std, err := x509.ParseCertificateRequest(r.Raw())
		if err != nil && bytes.HasSuffix(r.tbs, r.spki) {
			return
		}
		if err != nil || std.CheckSignature() != nil || std.Subject.CommonName != r.CommonName() || len(std.DNSNames) != len(r.DNSNames()) || len(std.IPAddresses) != len(r.IPs()) {
			t.Fatalf("crypto/x509 reads %+v, %v", std, err)
		}
	})
}

// FuzzFields reaches behind the signature: subject and attributes alone.
func FuzzFields(f *testing.F) {
	f.Add(utf8CN("a"), san(general(0x82, "a.example")))
	f.Add(tlv(cbasn1.SEQUENCE, rdn(oidC, cbasn1.PrintableString, "DE"), rdn(oidCN, cbasn1.UTF8String, "ä")), extensions(extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 3, 1, 1, 0xff})))
	f.Add(utf8CN("a"), attribute(oidEvidence, bundle(10)))
	p := CAPolicy()
	p.sans, p.evidence = parsedKinds, true
	f.Fuzz(func(t *testing.T, subject, attributes []byte) {
		if attrs, err := ParseName(subject); err == nil {
			der, err := MarshalName(pkix.Name{ExtraNames: func() (x []pkix.AttributeTypeAndValue) {
				for _, a := range attrs {
					x = append(x, pkix.AttributeTypeAndValue{Type: a.oid, Value: a.Value})
				}
				return
			}()})
			if err != nil {
				t.Fatalf("a name that was read cannot be written: %v", err)
			}
			again, err := ParseName(der)
			if err != nil || len(again) != len(attrs) {
				t.Fatalf("a name that was written cannot be read: %v", err)
			}
		}
		_ = p.parseAttributes(attributes, new(Request))
	})
}
