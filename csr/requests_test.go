package csr

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

// foreign is a line of testdata/requests/manifest.yaml.
type foreign struct {
	File     string `yaml:"file"`
	Made     string `yaml:"made"`
	Device   string `yaml:"device"`
	Ignoring string `yaml:"ignoring"`
	CN       string `yaml:"cn"`
	Asks     string `yaml:"asks"`
}

func foreignRequests(t testing.TB) []foreign {
	t.Helper()
	var m struct {
		Requests []foreign `yaml:"requests"`
	}
	if err := strict.ReadFile("testdata/requests/manifest.yaml", &m); err != nil {
		t.Fatal(err)
	}
	return m.Requests
}

var sentinels = map[string]error{"ok": nil, "ErrTooLarge": ErrTooLarge, "ErrMalformed": ErrMalformed, "ErrTrailingData": ErrTrailingData, "ErrSignature": ErrSignature,
	"ErrPossession": ErrPossession, "ErrKeyType": ErrKeyType, "ErrWeakKey": ErrWeakKey, "ErrNoCommonName": ErrNoCommonName, "ErrCommonNames": ErrCommonNames,
	"ErrCommonName": ErrCommonName, "ErrSubject": ErrSubject, "ErrString": ErrString, "ErrMultiValued": ErrMultiValued, "ErrRequestAttribute": ErrRequestAttribute,
	"ErrExtension": ErrExtension, "ErrSAN": ErrSAN, "ErrDuplicate": ErrDuplicate}

func words(asks []Ask) string {
	var out []string
	for _, a := range asks {
		out = append(out, strings.TrimSuffix(a.Name+"="+a.Value, "="))
	}
	return strings.Join(out, ", ")
}

// TestRequestsOfOthers: what other stacks send has the verdict that the manifest says; what is taken is the octets as they came, with the key
// that OpenSSL finds in it. No file stands beside the manifest.
func TestRequestsOfOthers(t *testing.T) {
	list := foreignRequests(t)
	files, err := filepath.Glob("testdata/requests/*.csr")
	if err != nil || len(files) != len(list) || len(list) < 100 {
		t.Fatalf("%d files, %d in the manifest, %v", len(files), len(list), err)
	}
	made := 0
	for _, f := range list {
		data, err := os.ReadFile("testdata/requests/" + f.File)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(f.Made, "built octet by octet") {
			made++
		}
		for _, c := range []struct {
			policy *Policy
			want   string
		}{{DevicePolicy(), f.Device}, {KeptPolicy(), f.Ignoring}} {
			want, known := sentinels[c.want]
			r, err := Parse(data, c.policy)
			if !known || !errors.Is(err, want) || (r == nil) != (want != nil) {
				t.Errorf("%s: %v, want %s", f.File, err, c.want)
				continue
			}
			if err != nil {
				if advice.Hint(err) == "" {
					t.Errorf("%s: no hint", f.File)
				}
				continue
			}
			if r.CommonName() != f.CN || c.policy.ignoresAll && words(r.Ignored()) != f.Asks || len(r.Asks()) != 0 {
				t.Errorf("%s: CN %q, %q ignored, %q", f.File, r.CommonName(), words(r.Ignored()), words(r.Asks()))
			}
			if !c.policy.ignoresAll {
				continue
			}
			der := data
			if block, _ := pem.Decode(bytes.TrimLeft(bytes.TrimPrefix(data, byteOrderMark), " ")); block != nil {
				der = block.Bytes
			}
			if !bytes.Equal(r.Raw(), der) {
				t.Errorf("%s: the request is not the octets that came", f.File)
			}
			path := filepath.Join(t.TempDir(), "r.der")
			if err := os.WriteFile(path, r.Raw(), 0o600); err != nil {
				t.Fatal(err)
			}
			spki := openssl(t, "req", "-verify", "-noout", "-pubkey", "-inform", "DER", "-in", path)
			if block, _ := pem.Decode(spki[bytes.Index(spki, []byte("-----BEGIN")):]); block == nil || !bytes.Equal(block.Bytes, r.SPKI()) {
				t.Errorf("%s: OpenSSL finds another key", f.File)
			}
		}
	}
	if made < 80 {
		t.Errorf("%d requests were made with tools of others", made)
	}
}

// TestPlainForms: forms that stacks write are read as the plain one, of each kind of key; each is refused where the signature is of other
// octets than those that came.
func TestPlainForms(t *testing.T) {
	n := 0
	base := map[string]*raw{}
	for _, key := range []string{"P-256", "RSA-2048", "Ed25519"} {
		base[key] = good(t, key)
	}
	for id, alg := range requestAlgorithms() {
		key := "P-256"
		switch {
		case strings.Contains(alg.String(), "RSA"):
			key = "RSA-2048"
		case alg.String() == "Ed25519":
			key = "Ed25519"
		}
		for _, none := range []bool{false, true} {
			for _, version := range []int64{0, wolfVersion} {
				r := *base[key]
				r.alg, r.algDER, r.noAttributes, r.version = alg, []byte(id), none, version
				der := r.der(t)
				got, err := Parse(der, DevicePolicy())
				if err != nil || got.CommonName() != "dev-0001" || !bytes.Equal(got.Raw(), der) {
					t.Fatalf("%v as %x, attributes %v, version %d: %v", alg, id, !none, version, err)
				}
				// The same content with the version written otherwise is not what was signed.
				at := bytes.Index(der, []byte{2, 1, byte(version)})
				der[at+2] = byte(wolfVersion - version)
				if got, err := Parse(der, DevicePolicy()); got != nil || !errors.Is(err, ErrPossession) {
					t.Errorf("%v: another version than was signed: %v", alg, err)
				}
				n++
			}
		}
	}
	if n != 4*(10+3+3+3*7) {
		t.Errorf("%d forms", n)
	}
	// A certificate has the one form all the same.
	for id := range requestAlgorithms() {
		if _, one := sigAlgByDER[id]; SignatureAlgorithm([]byte(id)) != 0 != one {
			t.Errorf("%x is read in certificates", id)
		}
	}
}

// TestIgnored: what a policy ignores must be well-formed, stand once, and be asked of it by name.
func TestIgnored(t *testing.T) {
	everything := []string{"OU", "dns", "ip", "keyUsage", "extKeyUsage", "basicConstraints", "subjectKeyIdentifier", challengePassword, unstructuredName, "1.3.6.1.4.1.311.13.2.3"}
	p, err := NewPolicy(PolicyConfig{KeyAlgorithms: keyAlgorithms, Ignored: everything})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range foreignRequests(t) {
		data, err := os.ReadFile("testdata/requests/" + f.File)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Parse(data, p)
		all := true
		for _, a := range strings.Split(f.Asks, ", ") {
			name, _, _ := strings.Cut(a, "=")
			all = all && (name == "" || slices.Contains(everything, name))
		}
		if (err == nil) != (all && f.Ignoring == "ok") {
			t.Errorf("%s: %v", f.File, err)
		}
		if r != nil && (len(r.DNSNames()) != 0 || len(r.IPs()) != 0) {
			t.Errorf("%s: names that are ignored are handed on", f.File)
		}
	}
	for _, bad := range [][]string{{"CN"}, {"otherName"}, {"2.5.29.15"}, {"1.2.840.113549.1.9.14"}, {"1.2.3.04"}, {"3.1.2"}, {"1.2"}, {"x"}, {""}} {
		if p, err := NewPolicy(PolicyConfig{KeyAlgorithms: keyAlgorithms, Ignored: bad}); p != nil || !errors.Is(err, ErrPolicy) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if p, err := NewPolicy(PolicyConfig{KeyAlgorithms: keyAlgorithms, Ignored: []string{"OU"}, Attributes: []string{"OU"}}); p != nil || !errors.Is(err, ErrPolicy) {
		t.Errorf("OU is taken and ignored: %v", err)
	}
	password := []int{1, 2, 840, 113549, 1, 9, 7}
	for name, c := range map[string]struct {
		attributes [][]byte
		want       error
	}{
		"twice":      {[][]byte{attribute(password, tlv(12, []byte("a"))), attribute(password, tlv(12, []byte("a")))}, ErrDuplicate},
		"two values": {[][]byte{attribute(password, tlv(12, []byte("a")), tlv(12, []byte("b")))}, ErrDuplicate},
		"no value":   {[][]byte{attribute(password)}, ErrMalformed},
		"a number":   {[][]byte{attribute(password, []byte{2, 1, 1})}, ErrMalformed},
		"empty":      {[][]byte{attribute(password, tlv(12))}, ErrMalformed},
		"bad usage":  {[][]byte{extensions(extension([]int{2, 5, 29, 15}, []byte{5, 0}))}, ErrMalformed},
		"bad dns":    {[][]byte{san(general(0x82, "*.example"))}, ErrSAN},
		"a CA":       {[][]byte{extensions(extension([]int{2, 5, 29, 19}, []byte{0x30, 3, 1, 1, 0xff}))}, ErrExtension},
		"evidence":   {[][]byte{attribute(oidEvidence, bundle(10))}, ErrRequestAttribute},
	} {
		r := good(t, "P-256")
		r.attributes = bytes.Join(c.attributes, nil)
		if got, err := Parse(r.der(t), p); got != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestHints: each refusal says what to do about it, and not what to do about another one. Cases of one kind may share a hint.
func TestHints(t *testing.T) {
	says := map[string][]error{}
	for _, c := range refusals {
		r := good(t, "P-256")
		c.spoil(t, r)
		_, err := Parse(r.der(t), permissive(t, c.name))
		says[advice.Hint(err)] = append(says[advice.Hint(err)], c.want)
	}
	for _, f := range foreignRequests(t) {
		if f.Ignoring == "ok" {
			continue
		}
		data, err := os.ReadFile("testdata/requests/" + f.File)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(data, KeptPolicy())
		says[advice.Hint(err)] = append(says[advice.Hint(err)], sentinels[f.Ignoring])
	}
	for hint, wants := range says {
		if hint == "" || len(hint) < 12 || len(hint) > 200 {
			t.Errorf("%q", hint)
		}
		slices.SortFunc(wants, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		if wants = slices.Compact(wants); len(wants) > 1 {
			t.Errorf("%q is said of %v", hint, wants)
		}
	}
	if len(says) < 50 {
		t.Errorf("%d hints for all refusals", len(says))
	}
	for _, c := range []struct{ file, hint string }{
		{"openssl-default-interactive", "/CN=ID"}, {"openssl-pss-max-salt", "rsa_pss_saltlen:digest"}, {"openssl-sha1", "-sha256"}, {"openssl-rsa-e3", "65537"}, {"openssl-rsa1024", "2048"},
		{"openssl-explicit-curve", "named_curve"}, {"openssl-compressed-point", "uncompressed"}, {"java-pss-key", "rsaEncryption"}, {"openssl-multivalued", "not +"}, {"openssl-ca", "ask for no CA"},
		{"bytes-utf16", "PowerShell"}, {"bytes-private-key", "never leaves"}, {"bytes-two-blocks", "file of its own"}, {"bytes-version-1", "req.version"}, {"bytes-ber", "DER"}, {"bytes-t61", "string_mask"},
	} {
		data, err := os.ReadFile("testdata/requests/" + c.file + ".csr")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data, KeptPolicy()); !strings.Contains(advice.Hint(err), c.hint) {
			t.Errorf("%s: %q", c.file, advice.Hint(err))
		}
	}
	for _, c := range []struct{ file, hint string }{{"wolfssl-challenge", "challengePassword"}, {"java-keytool", "subjectKeyIdentifier"}, {"openssl-ou", "leave OU out"}, {"openssl-san-eq-cn", "dns name"},
		{"openssl-challenge-unstructured", "challenge"}, {"bytes-ms-extension-request", "PKCS#9"}, {"openssl-utf8", "CN"}} {
		data, err := os.ReadFile("testdata/requests/" + c.file + ".csr")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data, DevicePolicy()); !strings.Contains(advice.Hint(err), c.hint) {
			t.Errorf("%s: %q", c.file, advice.Hint(err))
		}
	}
}
