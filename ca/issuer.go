package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Template is a request for a certificate.
type Template struct {
	Subject pkix.Name
	// RawSubject is the subject's DER and takes the place of Subject: for a cross-certificate, whose subject must be that of
	// the existing CA octet for octet, and to keep the order and encoding of a request.
	RawSubject     []byte
	PublicKey      crypto.PublicKey
	DNSNames       []string
	EmailAddresses []string
	IPs            []net.IP
	URIs           []*url.URL
	// NotBefore and NotAfter are cut to UTC seconds.
	NotBefore, NotAfter time.Time
	// Serial nil means a fresh random one of 20 octets, 158 bits of them random.
	Serial *big.Int
	// PathLen takes the place of the profile's and may only be smaller.
	PathLen *int
	// CRLURLs, OCSPURLs and IssuerURLs take the place of the profile's unless nil.
	CRLURLs, OCSPURLs, IssuerURLs []string
	// Generation of a device, from 1 to MaxGeneration, goes into an extension of its own; 0 for none. See Generation.
	Generation int
	// Constraints takes the place of the profile's name constraints, which it must lie within.
	Constraints *NameConstraints
}

// ErrRedeemed says that a Prepared was signed, or tried to be, before.
var ErrRedeemed = errors.New("it was redeemed before")

// Issuer is a CA certificate and its key. It is safe for concurrent use if the key is.
type Issuer struct {
	edition   Edition
	cert      *x509.Certificate
	key       crypto.Signer
	ancestors []*x509.Certificate
}

// NewIssuer checks that cert is a CA's that meets every rule and that key is its key. Ancestors, nearest first, are the
// certificates above cert as far as the caller has them: their constraints bind what is issued as cert's own do, and cert
// is checked against them.
func NewIssuer(cert *x509.Certificate, key crypto.Signer, ancestors ...*x509.Certificate) (*Issuer, error) {
	return Edition{}.NewIssuer(cert, key, ancestors...)
}

// NewIssuer is the function of that name, by the rules of the edition; what the issuer issues is held to them too.
func (e Edition) NewIssuer(cert *x509.Certificate, key crypto.Signer, ancestors ...*x509.Certificate) (*Issuer, error) {
	if cert == nil || key == nil {
		return nil, advice.New(advice.Usage, "give the issuer's certificate and key", "ca: issuer lacks a certificate or a key")
	}
	f := findings{subject: describe(cert), edition: e}
	lint(&f, cert, Imported) // it exists: whether it is one of ours was asked where it was made or imported
	checkIssuerRole(&f, cert)
	if !SameKey(cert.PublicKey, key.Public()) {
		f.add(ruleIssuerKey, "the key given is another")
	}
	if err := f.err(advice.Refused); err != nil {
		return nil, err
	}
	below := cert
	for _, a := range ancestors {
		if err := e.CheckChild(below, a, OTAConnect, Imported); err != nil {
			return nil, err
		}
		below = a
	}
	return &Issuer{edition: e, cert: cert, key: key, ancestors: ancestors}, nil
}

// By is the issuer with other rules.
func (i *Issuer) By(e Edition) *Issuer {
	other := *i
	other.edition = e
	return &other
}

// Certificate is the issuer's certificate.
func (i *Issuer) Certificate() *x509.Certificate { return i.cert }

// Prepare builds the certificate and holds it to the profile and every rule. Nothing is signed and the key not touched.
func (i *Issuer) Prepare(p *Profile, t Template, rand io.Reader) (*Prepared, error) {
	if p == nil || p.c.SelfSigned {
		return nil, advice.New(advice.Usage, "use PrepareRoot, or a profile that is not self_signed", "ca: profile %s is self-signed or absent", p)
	}
	c, err := newContent(i.edition, p, t, rand)
	if err != nil {
		return nil, err
	}
	c.issuer, c.aki, c.alg = i.cert.RawSubject, i.cert.SubjectKeyId, signatureFor(i.cert.PublicKey, p.sigAlg)
	return c.prepare(i.key, i.cert.PublicKey, func(f *findings, specimen *x509.Certificate) {
		checkPair(f, specimen, i.cert, waive(p))
		for _, a := range i.ancestors {
			checkAncestor(f, specimen, a, waive(p))
		}
	})
}

func waive(p *Profile) []Waiver {
	if p.c.OTAConnect {
		return []Waiver{OTAConnect}
	}
	return nil
}

// PrepareRoot is Prepare for a self-signed certificate; t.PublicKey may be nil, else it must be key's.
func PrepareRoot(p *Profile, t Template, key crypto.Signer, rand io.Reader) (*Prepared, error) {
	return Edition{}.PrepareRoot(p, t, key, rand)
}

// PrepareRoot is the function of that name, by the rules of the edition.
func (e Edition) PrepareRoot(p *Profile, t Template, key crypto.Signer, rand io.Reader) (*Prepared, error) {
	if p == nil || key == nil || !p.c.SelfSigned {
		return nil, advice.New(advice.Usage, "use a root profile and its key, or an issuer", "ca: profile %s is not self-signed, or the key absent", p)
	}
	if t.PublicKey == nil {
		t.PublicKey = key.Public()
	}
	if !SameKey(t.PublicKey, key.Public()) {
		f := findings{subject: t.Subject.String(), edition: e}
		f.add(ruleIssuerKey, "a self-signed certificate for another key than the one that signs")
		return nil, f.err(advice.Refused)
	}
	c, err := newContent(e, p, t, rand)
	if err != nil {
		return nil, err
	}
	c.issuer, c.aki, c.alg = c.subject, c.ski, signatureFor(t.PublicKey, p.sigAlg)
	return c.prepare(key, t.PublicKey, func(f *findings, specimen *x509.Certificate) { checkPair(f, specimen, specimen, nil) })
}

// newContent fills what does not depend on the issuer.
func newContent(e Edition, p *Profile, t Template, rand io.Reader) (c *content, err error) {
	c = &content{edition: e, profile: p, notBefore: seconds(t.NotBefore), notAfter: seconds(t.NotAfter), subject: t.RawSubject, serial: t.Serial,
		pathLen: p.c.PathLen, crl: p.c.CRLURLs, ocsp: p.c.OCSPURLs, aia: p.c.IssuerURLs, constraints: p.constraints, generation: t.Generation}
	if c.subject == nil {
		if c.subject, err = csr.MarshalName(t.Subject); err != nil {
			return nil, err
		}
	}
	if c.spki, err = csr.MarshalKey(t.PublicKey); err != nil {
		return nil, advice.New(advice.Refused, "use a key of an algorithm that the profile allows", "ca: public key: %w", err)
	}
	if c.ski, err = keyID(c.spki); err != nil {
		return nil, err
	}
	if c.san, err = csr.MarshalSANs(t.DNSNames, t.EmailAddresses, t.IPs, t.URIs); err != nil {
		return nil, err
	}
	c.names = namesFrom(t.DNSNames, t.EmailAddresses, t.IPs, t.URIs)
	if c.serial == nil {
		if c.serial, err = NewSerial(rand); err != nil {
			return nil, err
		}
	}
	return c, c.override(t)
}

// override takes from the template what may differ from the profile.
func (c *content) override(t Template) error {
	f := findings{subject: t.Subject.String(), edition: c.edition}
	if t.PathLen != nil {
		if own := c.profile.c.PathLen; !c.profile.c.CA || *t.PathLen < 0 || own != nil && *t.PathLen > *own {
			f.add(ruleProfileExt, "path length %d is not one that profile %q allows", *t.PathLen, c.profile.c.Name)
		}
		c.pathLen = t.PathLen
	}
	if t.Generation < 0 || t.Generation > MaxGeneration || t.Generation > 0 && c.profile.c.CA {
		f.add(ruleProfileExt, "%d is no generation of a device, or it is asked for in a CA's certificate", t.Generation)
	}
	for _, o := range []struct {
		to   *[]string
		from []string
	}{{&c.crl, t.CRLURLs}, {&c.ocsp, t.OCSPURLs}, {&c.aia, t.IssuerURLs}} {
		if o.from != nil {
			*o.to = o.from
		}
		for _, u := range o.from {
			if err := checkURL(u); err != nil {
				return err
			}
		}
	}
	if t.Constraints != nil {
		nc, err := t.Constraints.parse()
		if err != nil {
			return advice.New(advice.Usage, "mend the name constraints", "ca: name constraints: %w", err)
		}
		if !c.profile.c.CA {
			f.add(ruleProfileExt, "name constraints in a certificate that is not a CA's")
		}
		c.constraints = nc
	}
	return f.err(advice.Refused)
}

// NewSerial makes a positive serial number of exactly 20 octets, 158 bits of them random.
func NewSerial(rand io.Reader) (*big.Int, error) {
	var b [20]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return nil, fmt.Errorf("ca: randomness for a serial number: %w", err)
	}
	b[0] = b[0]&0x3f | 0x40 // positive, and no leading zero octet
	return new(big.Int).SetBytes(b[:]), nil
}

// prepare makes the specimen and holds it to all rules; pub is the issuing key's.
func (c *content) prepare(key crypto.Signer, pub crypto.PublicKey, relations func(*findings, *x509.Certificate)) (*Prepared, error) {
	if c.serial.Sign() <= 0 || c.serial.BitLen() > 20*8 {
		f := findings{subject: "certificate", edition: c.edition}
		f.add(ruleSerial, "serial %x", c.serial)
		return nil, f.err(advice.Refused)
	}
	tbs, err := c.marshal()
	if err != nil {
		return nil, fmt.Errorf("ca: encoding: %w", err)
	}
	der, err := csr.Assemble(tbs, c.alg, placeholder(pub))
	if err != nil {
		return nil, fmt.Errorf("ca: encoding: %w", err)
	}
	specimen, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, advice.New(advice.Refused, "change the request", "ca: the certificate asked for is not well-formed: %w", err)
	}
	f := findings{subject: describe(specimen), edition: c.edition}
	lint(&f, specimen)
	c.profile.check(&f, c, specimen)
	relations(&f, specimen)
	if err := f.err(advice.Refused); err != nil {
		return nil, err
	}
	p := &Prepared{key: key, pub: pub, tbs: tbs, alg: c.alg, specimen: specimen}
	if c.profile.c.Warning != "" {
		p.warnings = append(p.warnings, c.profile.c.Warning)
	}
	return p, nil
}

// Prepared is a certificate that met every rule and may be signed once.
type Prepared struct {
	key      crypto.Signer
	pub      crypto.PublicKey
	tbs      []byte
	alg      x509.SignatureAlgorithm
	specimen *x509.Certificate
	warnings []string
	redeemed atomic.Bool
}

// Serial is the serial number that the certificate will have.
func (p *Prepared) Serial() *big.Int { return new(big.Int).Set(p.specimen.SerialNumber) }

// TBSDigest is the SHA-256 of the DER that will be signed.
func (p *Prepared) TBSDigest() [32]byte { return sha256.Sum256(p.tbs) }

// TBS is the DER that will be signed.
func (p *Prepared) TBS() []byte { return bytes.Clone(p.tbs) }

// Specimen is the certificate with a signature that no key made.
func (p *Prepared) Specimen() *x509.Certificate { return p.specimen }

// Warnings are what the user of the profile must know, e.g. that common TLS software refuses what is under this root.
func (p *Prepared) Warnings() []string { return p.warnings }

// Sign signs the certificate with the issuer's key, verifies the signature in software and compares what was signed with
// the specimen. It works once, whether it succeeds or not, and however many call it at a time: the others get ErrRedeemed.
// It waits for the key no longer than ctx where the key has SignContext, as hsm.Key has; a plain crypto.Signer is waited for.
func (p *Prepared) Sign(ctx context.Context, rand io.Reader) (*x509.Certificate, error) {
	der, err := p.SignDER(ctx, rand)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("ca: the signed certificate cannot be read: %w", err)
	}
	return cert, nil
}

// SignDER is Sign for a caller who needs no more than the bytes: they are those of the specimen, which was read when it was prepared, but for
// the signature.
func (p *Prepared) SignDER(ctx context.Context, rand io.Reader) ([]byte, error) {
	if !p.redeemed.CompareAndSwap(false, true) {
		return nil, advice.New(advice.Refused, "prepare it anew", "ca: certificate %x: %w", p.specimen.SerialNumber, ErrRedeemed)
	}
	der, err := signOnce(ctx, rand, p.key, p.pub, p.alg, p.tbs)
	if err != nil {
		return nil, fmt.Errorf("ca: certificate %x for %s: %w", p.specimen.SerialNumber, show.Text(describe(p.specimen)), err)
	}
	whole, inner, tbs := cryptobyte.String(der), cryptobyte.String(nil), cryptobyte.String(nil)
	if !whole.ReadASN1(&inner, cbasn1.SEQUENCE) || !whole.Empty() || !inner.ReadASN1Element(&tbs, cbasn1.SEQUENCE) || !bytes.Equal(tbs, p.specimen.RawTBSCertificate) {
		return nil, advice.New(advice.Unverified, "report this; nothing was handed out", "ca: what was signed is not what was checked")
	}
	return der, nil
}

// signOnce signs and verifies against pub, the key in the issuer's certificate, whatever key.Public says now.
func signOnce(ctx context.Context, rand io.Reader, key crypto.Signer, pub crypto.PublicKey, alg x509.SignatureAlgorithm, tbs []byte) ([]byte, error) {
	if !SameKey(pub, key.Public()) {
		return nil, advice.New(advice.Refused, "reload the issuer", "the signing key changed since the certificate was prepared")
	}
	sig, err := csr.SignMessage(ctx, rand, key, alg, tbs)
	if err != nil {
		return nil, err
	}
	return csr.Assemble(tbs, alg, sig)
}
