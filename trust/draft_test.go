package trust_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// draftOf lays out the next part of a World, in which another CA is named.
func draftOf(t *testing.T, w *trusttest.World) *trust.Draft {
	t.Helper()
	prev, err := trust.OpenRepository(w.Offline, w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := prev.Content(w.Offline)
	if err != nil {
		t.Fatal(err)
	}
	c.Intermediates = append(c.Intermediates, w.NewCA("Another Issuing CA", &w.Root).Cert)
	c.Releases = append(c.Releases, trust.Release{Issuer: trust.IssuerID(w.Issuing.Cert), Serial: big.NewInt(5)})
	d, err := trust.NewDraft(prev, c, w.Now.AddDate(1, 0, 0), w.Now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func filesOf(t *testing.T, d *trust.Draft) trust.Files {
	t.Helper()
	f, err := d.Files()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDraftAddsUp: two officers sign copies of a draft, apart; together, in any order, they are the next part, which a publisher takes.
func TestDraftAddsUp(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	d := draftOf(t, w)
	if s := d.Standing(); s.Threshold != 2 || len(s.Signed) != 0 || len(s.Missing) != 2 || s.Met() || d.Version() != 2 {
		t.Errorf("%+v", s)
	}
	blank := filesOf(t, d)
	var copies []*trust.Draft
	for _, key := range w.TargetsKeys {
		one, err := trust.OpenDraft(blank, d.Previous(), w.Now)
		if err != nil {
			t.Fatal(err)
		}
		if err := one.Sign(key); err != nil {
			t.Fatal(err)
		}
		if err := one.Verify(w.Pin, w.Now); !errors.Is(err, trust.ErrSignature) {
			t.Errorf("one signature is enough: %v", err)
		}
		if err := one.Sign(key); advice.KindOf(err) != advice.Refused {
			t.Errorf("twice: %v", err)
		}
		// Through the files, as on a stick.
		again, err := trust.OpenDraft(filesOf(t, one), d.Previous(), w.Now)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, again)
	}
	for _, order := range [][]*trust.Draft{{copies[0], copies[1]}, {copies[1], copies[0], copies[0]}} {
		whole, err := trust.OpenDraft(blank, d.Previous(), w.Now)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range order {
			if _, err := whole.Merge(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := whole.Verify(w.Pin, w.Now); err != nil || !whole.Standing().Met() {
			t.Error(err)
		}
		w.Offline = filesOf(t, whole)
	}
	w.Import()
	if v := w.View(); len(v.Intermediates()) != 2 || v.Versions().Targets != 2 || v.Versions().Root != 1 {
		t.Errorf("%+v", v.Versions())
	}
}

// TestDraftRefuses: keys that may not sign, drafts that were changed, and signatures that are not good.
func TestDraftRefuses(t *testing.T) {
	w := trusttest.New(t)
	d := draftOf(t, w)
	for name, key := range map[string]crypto.Signer{"a stranger": w.Key(), "a root key": w.RootKeys[0], "an online key": w.CRL} {
		if err := d.Sign(key); advice.KindOf(err) != advice.Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(d.Standing().Signed) != 0 {
		t.Error("something was signed")
	}
	if err := d.Sign(w.TargetsKeys[0]); err != nil {
		t.Fatal(err)
	}
	good := filesOf(t, d)
	const path = "metadata/2.targets.json"
	for name, edit := range map[string]func(f trust.Files){
		"a changed expiry": func(f trust.Files) {
			f[path] = bytes.Replace(f[path], []byte(`"expires":"2027`), []byte(`"expires":"2037`), 1)
		},
		"no version after":          func(f trust.Files) { delete(f, path) },
		"a file less":               func(f trust.Files) { delete(f, find(f, "policy.json")) },
		"another file":              func(f trust.Files) { f[find(f, "anchors.pem")] = []byte("x") },
		"another environment":       func(f trust.Files) { f[path] = bytes.Replace(f[path], []byte(`"test"`), []byte(`"prod"`), 1) },
		"a path that is not needed": func(f trust.Files) { f[path] = bytes.Replace(f[path], []byte(`"crl/*.crl"`), []byte(`"*"`), 1) },
		"a signature of a stranger": func(f trust.Files) { trusttest.Forge(t, f, path, nil, w.Key()) },
		"an online key":             func(f trust.Files) { trusttest.Forge(t, f, path, nil, w.CRL) },
		"a signature twice":         func(f trust.Files) { trusttest.Forge(t, f, path, nil, w.TargetsKeys[0], w.TargetsKeys[0]) },
		"a target besides": func(f trust.Files) {
			trusttest.Forge(t, f, path, func(s map[string]any) {
				s["targets"].(map[string]any)["extra"] = map[string]any{"length": 1, "hashes": map[string]any{"sha256": strings.Repeat("ab", 32)}}
			}, w.TargetsKeys[0])
		},
		"an online role of other keys": func(f trust.Files) {
			trusttest.Forge(t, f, path, func(s map[string]any) {
				s["delegations"].(map[string]any)["roles"].([]any)[0].(map[string]any)["threshold"] = 2
			}, w.TargetsKeys[0])
		},
	} {
		f := maps.Clone(good)
		edit(f)
		if _, err := trust.OpenDraft(f, d.Previous(), w.Now); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	// A version so far ahead that hardly one is left to follow it; where officers have signed some that were never published, it may be a few ahead.
	for version, ok := range map[int64]bool{3: true, 1001: true, 1002: false, trust.MaxVersion: false} {
		f, ahead := maps.Clone(good), fmt.Sprintf("metadata/%d.targets.json", version)
		trusttest.Forge(t, f, path, func(s map[string]any) { s["version"] = version }, w.TargetsKeys[0])
		f[ahead] = f[path]
		delete(f, path)
		if _, err := trust.OpenDraft(f, d.Previous(), w.Now); (err == nil) != ok {
			t.Errorf("version %d after 1: %v", version, err)
		}
	}
	// Two drafts of one version do not add up.
	other := draftOf(t, w)
	if _, err := d.Merge(other); advice.KindOf(err) != advice.Refused || len(d.Standing().Signed) != 1 {
		t.Errorf("another draft: %v", err)
	}
	// What is in force is no draft.
	if _, err := trust.OpenDraft(w.Offline, d.Previous(), w.Now); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("what is in force: %v", err)
	}
	// A CRL less than before, or an older one, is no draft either; nor is what has expired.
	prev := d.Previous()
	c, err := prev.Content(w.Offline)
	if err != nil {
		t.Fatal(err)
	}
	c.CRLs = nil
	if _, err := trust.NewDraft(prev, c, w.Now.AddDate(1, 0, 0), w.Now); advice.KindOf(err) != advice.Refused {
		t.Errorf("without the root's CRL: %v", err)
	}
	if _, err := trust.NewDraft(prev, c, w.Now, w.Now); err == nil {
		t.Error("a draft that has expired")
	}
}

func find(f trust.Files, suffix string) string {
	for name := range f {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	return ""
}

// TestUnfitCAs: a part under whose CAs no device could connect is not built.
func TestUnfitCAs(t *testing.T) {
	w := trusttest.New(t)
	made := func(name string, under *trusttest.CA, edit func(*x509.Certificate)) trusttest.CA {
		key := w.Key()
		c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: w.Now.AddDate(-1, 0, 0), NotAfter: w.Now.AddDate(9, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
		edit(c)
		by := trusttest.CA{Cert: c, Key: key}
		if under != nil {
			by = *under
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by.Cert, key.Public(), by.Key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return trusttest.CA{Cert: cert, Key: key}
	}
	server := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	short := made("Short Root", nil, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	one := made("One Root", nil, func(c *x509.Certificate) { c.MaxPathLen = 1 })
	policy := made("Policy CA", &one, func(*x509.Certificate) {})
	base := w.Content
	for name, c := range map[string]struct {
		anchors, intermediates []*x509.Certificate
		want                   string
	}{
		"an anchor for servers":  {[]*x509.Certificate{made("TLS Root", nil, server).Cert}, nil, "excludes clientAuth"},
		"a CA for servers":       {nil, []*x509.Certificate{made("TLS CA", &w.Root, server).Cert}, "excludes clientAuth"},
		"a CA for devices":       {nil, []*x509.Certificate{made("Client CA", &w.Root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }).Cert}, ""},
		"an anchor that is none": {[]*x509.Certificate{w.Device("device", 3).Cert}, nil, "is not a CA certificate"},
		"a critical extension": {nil, []*x509.Certificate{made("Odd CA", &w.Root, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}).Cert}, "critical extension"},
		"a root that allows no CA":        {[]*x509.Certificate{short.Cert}, []*x509.Certificate{made("Under Short", &short, func(*x509.Certificate) {}).Cert}, "path lengths"},
		"a root that allows one":          {[]*x509.Certificate{one.Cert}, []*x509.Certificate{policy.Cert}, ""},
		"a root that allows one, and two": {[]*x509.Certificate{one.Cert}, []*x509.Certificate{policy.Cert, made("Deep CA", &policy, func(*x509.Certificate) {}).Cert}, "path lengths"},
	} {
		content := base
		content.Anchors = slices.Concat(base.Anchors, c.anchors)
		content.Intermediates = slices.Concat(base.Intermediates, c.intermediates)
		_, err := trust.Prepare(nil, content, w.Keys, w.Validity, w.Now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestChanges: what appears, disappears and stays with another value is said, in words that nobody else chose.
func TestChanges(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	d := draftOf(t, w)
	lines := strings.Join(trust.Changes(d.Previous(), d.Next()), "\n")
	for _, want := range []string{"+ issuing CA CN=Another Issuing CA (certificate ", "+ release: serial 5 of CN=Specimen Issuing CA: no CRL need list it"} {
		if !strings.Contains(lines, want) {
			t.Errorf("%q is missing in\n%s", want, lines)
		}
	}
	if strings.Count(lines, "\n") != 1 {
		t.Errorf("more than what changed:\n%s", lines)
	}
	back := strings.Join(trust.Changes(d.Next(), d.Previous()), "\n")
	if !strings.Contains(back, "- issuing CA CN=Another Issuing CA: its devices are refused") || !strings.Contains(back, "- release: ") {
		t.Error(back)
	}
	all := strings.Join(trust.Changes(nil, d.Next()), "\n")
	if !strings.Contains(all, "+ anchor CN=Specimen Fleet Root") || !strings.Contains(all, "+ CRL of CN=Specimen Fleet Root: number 1, 0 revoked") || !strings.Contains(all, "+ policy: keys of P-256") {
		t.Error(all)
	}
}
