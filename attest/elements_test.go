package attest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func policy(t testing.TB, m *attest.Manufacturers, more ...attest.Verifier) *attest.Policy {
	t.Helper()
	p, err := attest.NewPolicy(attest.PolicyConfig{Manufacturers: m, Default: attest.Rule{Level: attest.Required}, Verifiers: more})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// judge sends evidence through its encoding and judges it.
func judge(t testing.TB, p *attest.Policy, e attest.Evidence, key crypto.PublicKey) (*attest.Verdict, error) {
	t.Helper()
	der, err := e.Marshal()
	if err != nil {
		return nil, err
	}
	back, err := attest.ParseEvidence(der)
	if err != nil {
		t.Fatal(err)
	}
	return p.Verify(back, attest.Request{Key: key, Subject: []byte("subject"), SPKI: []byte("spki")}, attest.Activation{}, time.Now())
}

func refusedFor(t *testing.T, v *attest.Verdict, err, reason error, text string) {
	t.Helper()
	if v != nil || !errors.Is(err, reason) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, %v; want %v with %q", v, err, reason, text)
	}
}

func replace(extensions []pkix.Extension, oid string, value []byte) (out []pkix.Extension) {
	for _, e := range extensions {
		if e.Id.String() == oid {
			if value == nil {
				continue
			}
			e.Value = value
		}
		out = append(out, e)
	}
	return out
}

// TestPIV: certificates as a YubiKey makes them.
func TestPIV(t *testing.T) {
	maker, other := attesttest.NewMaker(t, "Yubi"), attesttest.NewMaker(t, "Other")
	p := policy(t, attesttest.Pin(t, attest.PIV, maker))
	card, key := maker.NewElement(t, "PIV Attestation f9"), newKey(t)
	e := attest.Evidence{Kind: attest.PIV, Nonce: []byte("nonce"), Certificates: card.Attest(t, attesttest.Leaf(t, "YubiKey PIV Attestation 9a", attesttest.PIVExtensions()...), key.Public())}
	v, err := judge(t, p, e, key.Public())
	if err != nil || v.Manufacturer != "Yubi" || v.Fact("firmware") != "5.4.3" || v.Fact("serial") != "10000000" || v.Fact("pin policy") != "once" || v.Fact("touch policy") != "never" {
		t.Fatalf("%+v, %v", v, err)
	}
	// In any order.
	e.Certificates[0], e.Certificates[2] = e.Certificates[2], e.Certificates[0]
	if _, err := judge(t, p, e, key.Public()); err != nil {
		t.Error(err)
	}
	e.Certificates[0], e.Certificates[2] = e.Certificates[2], e.Certificates[0]

	with := func(extensions []pkix.Extension) attest.Evidence {
		return attest.Evidence{Kind: attest.PIV, Nonce: []byte("nonce"), Certificates: card.Attest(t, attesttest.Leaf(t, "YubiKey PIV Attestation 9a", extensions...), key.Public())}
	}
	fake := other.NewElement(t, "PIV Attestation f9")
	cut := e
	cut.Certificates = e.Certificates[:1]
	cut2 := e
	cut2.Certificates = e.Certificates[:2]
	ca := attesttest.Leaf(t, "YubiKey PIV Attestation 9a", attesttest.PIVExtensions()...)
	ca.IsCA, ca.BasicConstraintsValid = true, true
	// A key that a card attested signs a certificate for a key in software.
	slot := attesttest.Sign(t, attesttest.Leaf(t, "slot", attesttest.PIVExtensions()...), key.Public(), card.Cert, card.Key)
	soft := newKey(t)
	forged := e
	forged.Certificates = [][]byte{attesttest.Sign(t, attesttest.Leaf(t, "slot", attesttest.PIVExtensions()...), soft.Public(), slot, key).Raw, slot.Raw, card.Cert.Raw, maker.Intermediate.Raw}
	twice := e
	twice.Certificates = append([][]byte{slot.Raw}, e.Certificates...)
	old := attesttest.Leaf(t, "slot", attesttest.PIVExtensions()...)
	old.NotAfter = time.Now().Add(-time.Minute)
	for _, c := range []struct {
		name   string
		e      attest.Evidence
		key    crypto.PublicKey
		reason error
		text   string
	}{
		{"another key", e, newKey(t).Public(), attest.ErrOtherKey, "no certificate attests"},
		{"another manufacturer", attest.Evidence{Kind: attest.PIV, Nonce: []byte("n"), Certificates: fake.Attest(t, attesttest.Leaf(t, "x", attesttest.PIVExtensions()...), key.Public())}, key.Public(), attest.ErrManufacturer, "neither sent nor pinned"},
		{"cut short", cut, key.Public(), attest.ErrManufacturer, "cut short"},
		{"cut short by one", cut2, key.Public(), attest.ErrManufacturer, "cut short"},
		{"signed by an attested key", forged, soft.Public(), attest.ErrCertificate, "has signed another certificate"},
		{"two certificates for the key", twice, key.Public(), attest.ErrMalformed, "two certificates"},
		{"a CA", attest.Evidence{Kind: attest.PIV, Nonce: []byte("n"), Certificates: card.Attest(t, ca, key.Public())}, key.Public(), attest.ErrCertificate, "is a CA's"},
		{"expired", attest.Evidence{Kind: attest.PIV, Nonce: []byte("n"), Certificates: card.Attest(t, old, key.Public())}, key.Public(), attest.ErrExpired, "valid from"},
		{"no firmware", with(replace(attesttest.PIVExtensions(), "1.3.6.1.4.1.41482.3.3", nil)), key.Public(), attest.ErrCertificate, "lacks the extensions"},
		{"no policy", with(replace(attesttest.PIVExtensions(), "1.3.6.1.4.1.41482.3.8", nil)), key.Public(), attest.ErrCertificate, "lacks the extensions"},
		{"a policy nobody knows", with(replace(attesttest.PIVExtensions(), "1.3.6.1.4.1.41482.3.8", []byte{9, 9})), key.Public(), attest.ErrCertificate, "lacks the extensions"},
		{"a serial that is none", with(replace(attesttest.PIVExtensions(), "1.3.6.1.4.1.41482.3.7", []byte{4, 1, 0})), key.Public(), attest.ErrMalformed, "serial"},
		{"a critical extension", with(append(attesttest.PIVExtensions(), pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})), key.Public(), attest.ErrCertificate, "1.2.3"},
		{"no certificate", attest.Evidence{Kind: attest.PIV, Nonce: []byte("n")}, key.Public(), attest.ErrMalformed, "no certificate"},
		{"as a YubiHSM", attest.Evidence{Kind: attest.YubiHSM, Nonce: []byte("n"), Certificates: e.Certificates}, key.Public(), attest.ErrManufacturer, "no manufacturer of kind yubihsm"},
		{"of a kind that nobody knows", attest.Evidence{Kind: "x", Nonce: []byte("n"), Certificates: e.Certificates}, key.Public(), attest.ErrManufacturer, "kind x is not known"},
		{"with a statement beside it", attest.Evidence{Kind: attest.PIV, Nonce: []byte("n"), Certificates: e.Certificates, Other: []attest.Statement{{Type: []byte{6, 1, 42}, Value: []byte{5, 0}}}}, key.Public(), attest.ErrMalformed, "not one of kind piv"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := judge(t, p, c.e, c.key)
			refusedFor(t, v, err, c.reason, c.text)
		})
	}
}

// TestYubiHSM: certificates as a YubiHSM makes them.
func TestYubiHSM(t *testing.T) {
	maker := attesttest.NewMaker(t, "Yubi")
	p := policy(t, attesttest.Pin(t, attest.YubiHSM, maker))
	chip, key := maker.NewElement(t, "YubiHSM Attestation"), newKey(t)
	with := func(x ...pkix.Extension) attest.Evidence {
		return attest.Evidence{Kind: attest.YubiHSM, Nonce: []byte("n"), Certificates: chip.Attest(t, attesttest.Leaf(t, "YubiHSM Attestation id 0x0003", x...), key.Public())}
	}
	good := attesttest.HSMExtensions(1, 0x80)
	v, err := judge(t, p, with(good...), key.Public())
	if err != nil || v.Fact("firmware") != "2.4.1" || v.Fact("serial") != "34331133" || v.Fact("label") != "key" || v.Fact("object") != "3" {
		t.Fatalf("%+v, %v", v, err)
	}
	for _, c := range []struct {
		name   string
		x      []pkix.Extension
		reason error
		text   string
	}{
		{"imported", attesttest.HSMExtensions(2, 0x80), attest.ErrKeyAttributes, "0x02"},
		{"generated elsewhere, imported wrapped", attesttest.HSMExtensions(0x11, 0x80), attest.ErrKeyAttributes, "0x11"},
		{"exportable", attesttest.HSMExtensions(1, 0x80|1<<16), attest.ErrKeyAttributes, "exportable-under-wrap"},
		{"no origin", replace(good, "1.3.6.1.4.1.41482.4.3", nil), attest.ErrCertificate, "lacks"},
		{"no capabilities", replace(good, "1.3.6.1.4.1.41482.4.5", nil), attest.ErrCertificate, "lacks"},
		{"short capabilities", replace(good, "1.3.6.1.4.1.41482.4.5", []byte{3, 2, 0, 0}), attest.ErrCertificate, "lacks"},
		{"data after the origin", replace(good, "1.3.6.1.4.1.41482.4.3", []byte{3, 2, 0, 1, 0}), attest.ErrCertificate, "lacks"},
		{"bad label", replace(good, "1.3.6.1.4.1.41482.4.9", []byte{12, 1, 0xff}), attest.ErrMalformed, "label"},
		{"bad object", replace(good, "1.3.6.1.4.1.41482.4.6", []byte{2, 1, 0xff}), attest.ErrMalformed, "object"},
		{"a PIV card's", attesttest.PIVExtensions(), attest.ErrCertificate, "lacks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := judge(t, p, with(c.x...), key.Public())
			refusedFor(t, v, err, c.reason, c.text)
		})
	}
}

// TestAndroid: certificates as an Android key store makes them.
func TestAndroid(t *testing.T) {
	maker := attesttest.NewMaker(t, "Phone")
	p := policy(t, attesttest.Pin(t, attest.Android, maker))
	chip, key, nonce := maker.NewElement(t, "TEE"), newKey(t), []byte("nonce")
	with := func(x ...pkix.Extension) attest.Evidence {
		return attest.Evidence{Kind: attest.Android, Nonce: nonce, Certificates: chip.Attest(t, attesttest.Leaf(t, "Android Keystore Key", x...), key.Public())}
	}
	v, err := judge(t, p, with(attesttest.NewKeyDescription(nonce).Extension()), key.Public())
	if err != nil || v.Fact("security level") != "trusted environment" || v.Fact("os patch level") != "202609" || v.Fact("created, says the device") == "" {
		t.Fatalf("%+v, %v", v, err)
	}
	sealed := attesttest.NewKeyDescription(nonce)
	sealed.Level, sealed.KeyMintLevel = 2, 2
	if v, err := judge(t, p, with(sealed.Extension()), key.Public()); err != nil || v.Fact("security level") != "StrongBox" {
		t.Errorf("%+v, %v", v, err)
	}
	for name, c := range map[string]struct {
		change func(*attesttest.KeyDescription)
		reason error
		text   string
	}{
		"another challenge":         {func(d *attesttest.KeyDescription) { d.Challenge = []byte("older nonce") }, attest.ErrStale, "another challenge"},
		"software":                  {func(d *attesttest.KeyDescription) { d.Level = 0 }, attest.ErrCertificate, "made by software"},
		"software holds it":         {func(d *attesttest.KeyDescription) { d.KeyMintLevel = 0 }, attest.ErrKeyAttributes, "held by software"},
		"a level that nobody knows": {func(d *attesttest.KeyDescription) { d.Level = 3 }, attest.ErrCertificate, "level 3"},
		"imported":                  {func(d *attesttest.KeyDescription) { d.Origin = 2 }, attest.ErrKeyAttributes, "origin is 2"},
		"no origin":                 {func(d *attesttest.KeyDescription) { d.Without = map[int]bool{702: true} }, attest.ErrKeyAttributes, "where it comes from"},
		"not for signing":           {func(d *attesttest.KeyDescription) { d.Purposes = []int64{1} }, attest.ErrKeyAttributes, "purpose 2"},
		"no purpose":                {func(d *attesttest.KeyDescription) { d.Without = map[int]bool{1: true} }, attest.ErrKeyAttributes, "purpose 2"},
		"unlocked":                  {func(d *attesttest.KeyDescription) { d.Locked = false }, attest.ErrPCR, "unlocked"},
		"self-signed software":      {func(d *attesttest.KeyDescription) { d.BootState = 1 }, attest.ErrPCR, "state 1"},
		"no root of trust":          {func(d *attesttest.KeyDescription) { d.Without = map[int]bool{704: true} }, attest.ErrPCR, "what software"},
		"origin twice":              {func(d *attesttest.KeyDescription) { d.Origin, d.Twice = 2, true }, attest.ErrMalformed, "hardware's list"},
		"bytes that are no list":    {func(d *attesttest.KeyDescription) { d.Software = []byte{5, 0} }, attest.ErrMalformed, "software's list"},
		"a long tag number":         {func(d *attesttest.KeyDescription) { d.Software = []byte{0xbf, 0x80, 0x01, 0x00} }, attest.ErrMalformed, "software's list"},
		"a tag number too short":    {func(d *attesttest.KeyDescription) { d.Software = []byte{0xbf, 0x01, 0x00} }, attest.ErrMalformed, "software's list"},
		"a tag that does not end":   {func(d *attesttest.KeyDescription) { d.Software = []byte{0xbf, 0x85} }, attest.ErrMalformed, "software's list"},
	} {
		t.Run(name, func(t *testing.T) {
			d := attesttest.NewKeyDescription(nonce)
			c.change(d)
			v, err := judge(t, p, with(d.Extension()), key.Public())
			refusedFor(t, v, err, c.reason, c.text)
		})
	}
	v, err = judge(t, p, with(), key.Public())
	refusedFor(t, v, err, attest.ErrCertificate, "no key description")
	// A key that was attested signs a certificate with a better description for a key in software.
	slot := attesttest.Sign(t, attesttest.Leaf(t, "key", attesttest.NewKeyDescription(nonce).Extension()), key.Public(), chip.Cert, chip.Key)
	soft := newKey(t)
	forged := attest.Evidence{Kind: attest.Android, Nonce: nonce, Certificates: [][]byte{
		attesttest.Sign(t, attesttest.Leaf(t, "key", attesttest.NewKeyDescription(nonce).Extension()), soft.Public(), slot, key).Raw, slot.Raw, chip.Cert.Raw, maker.Intermediate.Raw}}
	v, err = judge(t, p, forged, soft.Public())
	refusedFor(t, v, err, attest.ErrCertificate, "has signed another certificate")
}

// tile is a secure element of a further kind, as somebody else would write it.
type tile struct{ says attest.Verdict }

func (tile) Kind() attest.Kind { return "tile" }
func (k tile) Verify(m *attest.Manufacturers, e *attest.Evidence, want attest.Want) (*attest.Verdict, error) {
	if k.says.Kind != "" {
		return &k.says, nil
	}
	_, v, err := m.X509Evidence("tile", e.Certificates, want.Key, nil, want)
	return v, err
}

// TestFurtherKind: another kind of secure element is taken in without a change of the package, and cannot vouch for another key
// than the request's.
func TestFurtherKind(t *testing.T) {
	maker := attesttest.NewMaker(t, "Tiles")
	pinned := attesttest.Pin(t, "tile", maker)
	p := policy(t, pinned, tile{})
	chip, key := maker.NewElement(t, "tile"), newKey(t)
	e := attest.Evidence{Kind: "tile", Nonce: []byte("n"), Certificates: chip.Attest(t, attesttest.Leaf(t, "key"), key.Public()), Other: []attest.Statement{{Type: []byte{6, 1, 42}, Value: []byte{5, 0}}}}
	if v, err := judge(t, p, e, key.Public()); err != nil || v.Kind != "tile" {
		t.Errorf("%+v, %v", v, err)
	}
	v, err := judge(t, policy(t, pinned, tile{attest.Verdict{Kind: "tile", Key: "00"}}), e, key.Public())
	refusedFor(t, v, err, attest.ErrOtherKey, "another key")
	v, err = judge(t, policy(t, pinned, tile{attest.Verdict{Kind: attest.TPM}}), e, key.Public())
	refusedFor(t, v, err, attest.ErrMalformed, "no verdict")
	if _, err := attest.NewPolicy(attest.PolicyConfig{Manufacturers: pinned, Default: attest.Rule{Level: attest.Required}, Verifiers: []attest.Verifier{tile{}, tile{}}}); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("a kind twice: %v", err)
	}
}

// TestPolicy: what is no policy.
func TestPolicy(t *testing.T) {
	pinned := attesttest.Pin(t, attest.TPM, attesttest.NewMaker(t, "Acme"))
	required := attest.Rule{Level: attest.Required}
	for name, c := range map[string]attest.PolicyConfig{
		"no level":                   {Manufacturers: pinned},
		"another level":              {Manufacturers: pinned, Default: attest.Rule{Level: "perhaps"}},
		"required of nobody":         {Default: required},
		"accepted of nobody":         {Default: attest.Rule{Level: attest.Accepted}},
		"a maker of unknown kind":    {Manufacturers: attesttest.Pin(t, "tmp", attesttest.NewMaker(t, "Typo")), Default: attest.Rule{Level: attest.Ignored}},
		"a kind that nobody knows":   {Manufacturers: pinned, Default: attest.Rule{Level: attest.Required, Kinds: []attest.Kind{"x"}}},
		"a kind without a root":      {Manufacturers: pinned, Default: attest.Rule{Level: attest.Required, Kinds: []attest.Kind{attest.PIV}}},
		"a lot weaker than required": {Manufacturers: pinned, Default: required, Lots: map[string]attest.Rule{"a": {Level: attest.Accepted}}},
	} {
		if p, err := attest.NewPolicy(c); p != nil || !errors.Is(err, attest.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := attest.NewPolicy(attest.PolicyConfig{Manufacturers: pinned, Default: attest.Rule{Level: attest.Ignored}, Lots: map[string]attest.Rule{"a": required}})
	if err != nil || p.Rule("a").Level != attest.Required || p.Rule("b").Level != attest.Ignored {
		t.Errorf("%v", err)
	}
}

// TestNonce: who may use a nonce, and when.
func TestNonce(t *testing.T) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	c, err := attest.NewChallenger(key, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	nonce, until, err := c.Issue(rand.Reader, at, "line-1", "dev-1")
	if err != nil || !until.Equal(at.Add(5*time.Minute)) {
		t.Fatal(until, err)
	}
	if issued, err := c.Check(nonce, at.Add(time.Minute), "line-1", "dev-1"); err != nil || !issued.Equal(at) {
		t.Errorf("%v, %v", issued, err)
	}
	again, _ := attest.NewChallenger(key, 5*time.Minute) // another server, or the same after a restart
	if _, err := again.Check(nonce, at.Add(-30*time.Second), "line-1", "dev-1"); err != nil {
		t.Error(err)
	}
	other, _ := attest.NewChallenger(append([]byte{1}, key...), 5*time.Minute)
	for name, f := range map[string]func() error{
		"another station":   func() error { _, err := c.Check(nonce, at, "line-2", "dev-1"); return err },
		"another device":    func() error { _, err := c.Check(nonce, at, "line-1", "dev-2"); return err },
		"parts moved":       func() error { _, err := c.Check(nonce, at, "line-1d", "ev-1"); return err },
		"another key":       func() error { _, err := other.Check(nonce, at, "line-1", "dev-1"); return err },
		"nothing":           func() error { _, err := c.Check(nil, at, "line-1", "dev-1"); return err },
		"one octet too few": func() error { _, err := c.Check(nonce[1:], at, "line-1", "dev-1"); return err },
	} {
		if err := f(); !errors.Is(err, attest.ErrNonce) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range nonce {
		bad := append([]byte(nil), nonce...)
		bad[n] ^= 1
		if _, err := c.Check(bad, at, "line-1", "dev-1"); !errors.Is(err, attest.ErrNonce) {
			t.Errorf("octet %d changed: %v", n, err)
		}
	}
	for _, when := range []time.Time{at.Add(5*time.Minute + time.Second), at.Add(-2 * time.Minute), at.AddDate(1, 0, 0)} {
		if _, err := c.Check(nonce, when, "line-1", "dev-1"); !errors.Is(err, attest.ErrNonceExpired) {
			t.Errorf("at %s: %v", when, err)
		}
	}
	for _, bad := range []func() (*attest.Challenger, error){func() (*attest.Challenger, error) { return attest.NewChallenger(key[:31], time.Minute) },
		func() (*attest.Challenger, error) { return attest.NewChallenger(key, 0) }} {
		if _, err := bad(); !errors.Is(err, attest.ErrPolicy) {
			t.Error(err)
		}
	}
}
