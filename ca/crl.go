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
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
)

// CRLTemplate is a request for a complete CRL.
type CRLTemplate struct {
	// Number must be greater than the previous CRL's.
	Number *big.Int
	// ThisUpdate and NextUpdate are cut to UTC seconds.
	ThisUpdate, NextUpdate time.Time
	// Entries are all revoked serials; of each only SerialNumber, RevocationTime and ReasonCode are used.
	Entries []x509.RevocationListEntry
	// Released are serials of the previous CRL that may be missing from this one.
	Released []*big.Int
	// Redated allows a thisUpdate before the previous CRL's, for one that a wrong clock dated.
	Redated bool
	// Issued reports whether this issuer issued a serial; nil where the caller keeps no record of it.
	Issued func(serial *big.Int) bool
}

// PrepareCRL builds a CRL and holds it to every rule; previous is the issuer's last CRL, nil only for the first. Nothing is
// signed.
func (i *Issuer) PrepareCRL(t CRLTemplate, previous *x509.RevocationList) (*PreparedCRL, error) {
	f := findings{subject: crlName(i.cert, t.Number), edition: i.edition}
	if t.Number == nil || t.Number.Sign() <= 0 || serialOctets(t.Number) > 20 {
		f.add(ruleCRLNumber, "the number is missing, not positive or longer than 20 octets")
	}
	for n, e := range t.Entries {
		switch {
		case e.SerialNumber == nil || e.SerialNumber.Sign() <= 0:
			f.add(ruleCRLEntry, "entry %d has no positive serial number", n+1)
		case e.RevocationTime.IsZero():
			f.add(ruleCRLTime, "entry %x has no time", e.SerialNumber)
		case t.Issued != nil && !t.Issued(e.SerialNumber):
			f.add(ruleCRLBelongs, "serial %x was not issued by %s", e.SerialNumber, describe(i.cert))
		}
	}
	if err := f.err(advice.Refused); err != nil {
		return nil, err
	}
	alg := signatureFor(i.cert.PublicKey, x509.UnknownSignatureAlgorithm)
	tbs, err := marshalCRL(i.cert, alg, t)
	if err != nil {
		return nil, fmt.Errorf("ca: encoding a CRL: %w", err)
	}
	der, err := csr.Assemble(tbs, alg, placeholder(i.cert.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("ca: encoding a CRL: %w", err)
	}
	specimen, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, advice.New(advice.Refused, "change the request", "ca: the CRL asked for is not well-formed: %w", err)
	}
	lintCRL(&f, specimen)
	checkCRLIssuer(&f, specimen, i.cert)
	checkCRLSequence(&f, specimen, i.cert, previous, t)
	if err := f.err(advice.Refused); err != nil {
		return nil, err
	}
	return &PreparedCRL{key: i.key, pub: i.cert.PublicKey, tbs: tbs, alg: alg, specimen: specimen}, nil
}

func crlName(issuer *x509.Certificate, number *big.Int) string {
	return fmt.Sprintf("CRL %v of %s", number, describe(issuer))
}

// marshalCRL encodes a TBSCertList (RFC 5280, section 5.1).
func marshalCRL(issuer *x509.Certificate, alg x509.SignatureAlgorithm, t CRLTemplate) ([]byte, error) {
	entries, err := marshalEntries(t.Entries)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddBytes(csr.AlgorithmIdentifier(alg))
		b.AddBytes(issuer.RawSubject)
		addTime(b, seconds(t.ThisUpdate))
		addTime(b, seconds(t.NextUpdate))
		if len(t.Entries) > 0 { // absent, not empty (section 5.1.2.6)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(entries)
			})
		}
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addExtension(b, oidAKI, false, func(b *cryptobyte.Builder) { addAKI(b, issuer.SubjectKeyId) })
				addExtension(b, oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1BigInt(t.Number) })
			})
		})
	})
	return b.Bytes()
}

// PreparedCRL is a CRL that met every rule and may be signed once.
type PreparedCRL struct {
	key      crypto.Signer
	pub      crypto.PublicKey
	tbs      []byte
	alg      x509.SignatureAlgorithm
	specimen *x509.RevocationList
	redeemed atomic.Bool
}

// Number is the CRL number.
func (p *PreparedCRL) Number() *big.Int { return new(big.Int).Set(p.specimen.Number) }

// TBSDigest is the SHA-256 of the DER that will be signed.
func (p *PreparedCRL) TBSDigest() [32]byte { return sha256.Sum256(p.tbs) }

// Specimen is the CRL with a signature that no key made.
func (p *PreparedCRL) Specimen() *x509.RevocationList { return p.specimen }

// Sign signs the CRL once, verifies the signature in software and compares what was signed with the specimen.
// It waits for the key as long as Prepared.Sign does.
func (p *PreparedCRL) Sign(ctx context.Context, rand io.Reader) (*x509.RevocationList, error) {
	if !p.redeemed.CompareAndSwap(false, true) {
		return nil, advice.New(advice.Refused, "prepare it anew", "ca: CRL %v: %w", p.specimen.Number, ErrRedeemed)
	}
	der, err := signOnce(ctx, rand, p.key, p.pub, p.alg, p.tbs)
	if err != nil {
		return nil, fmt.Errorf("ca: CRL %v: %w", p.specimen.Number, err)
	}
	return signedAs(p.specimen, der)
}

// signedAs is the specimen with the signature in der, whose other bytes must be those of the specimen: they were read and checked as such, and
// a list of 100,000 entries is not read a second time.
func signedAs(specimen *x509.RevocationList, der []byte) (*x509.RevocationList, error) {
	was, _, err := splitSigned(specimen.Raw)
	if err != nil {
		return nil, fmt.Errorf("ca: the specimen cannot be read: %w", err)
	}
	is, signature, err := splitSigned(der)
	if err != nil {
		return nil, fmt.Errorf("ca: the signed CRL cannot be read: %w", err)
	}
	if !bytes.Equal(is, was) || !bytes.HasPrefix(was, specimen.RawTBSRevocationList) {
		return nil, advice.New(advice.Unverified, "report this; nothing was handed out", "ca: what was signed is not what was checked")
	}
	list := *specimen
	list.Raw, list.RawTBSRevocationList, list.Signature = der, is[:len(specimen.RawTBSRevocationList)], signature
	return &list, nil
}

// splitSigned takes the signature off a CertificateList (RFC 5280, section 5.1): rest is tbsCertList and signatureAlgorithm.
func splitSigned(der []byte) (rest, signature []byte, err error) {
	input, list, tbs, alg := cryptobyte.String(der), cryptobyte.String(nil), cryptobyte.String(nil), cryptobyte.String(nil)
	if !input.ReadASN1(&list, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, nil, errors.New("it is not one SEQUENCE")
	}
	whole := list
	if !list.ReadASN1Element(&tbs, cbasn1.SEQUENCE) || !list.ReadASN1Element(&alg, cbasn1.SEQUENCE) || !list.ReadASN1BitStringAsBytes(&signature) || !list.Empty() {
		return nil, nil, errors.New("it is not content, algorithm and signature")
	}
	return whole[:len(tbs)+len(alg)], signature, nil
}

// LintCRL holds a finished CRL to all rules that need no issuer.
func LintCRL(crl *x509.RevocationList) error {
	f := findings{subject: "CRL"}
	if crl == nil {
		f.add(ruleCRLForm, "there is none")
		return f.err(advice.Unverified)
	}
	f.subject = fmt.Sprintf("CRL %v of %s", crl.Number, crl.Issuer)
	lintCRL(&f, crl)
	return f.err(advice.Unverified)
}

// CheckCRL holds a finished CRL to every rule against its issuer and, unless nil, its predecessor.
func CheckCRL(crl *x509.RevocationList, issuer *x509.Certificate, previous *x509.RevocationList, released ...*big.Int) error {
	f := findings{subject: "CRL"}
	if crl == nil || issuer == nil {
		f.add(ruleCRLIssuer, "there is no CRL or no issuer")
		return f.err(advice.Unverified)
	}
	f.subject = crlName(issuer, crl.Number)
	lintCRL(&f, crl)
	checkCRLIssuer(&f, crl, issuer)
	checkCRLSequence(&f, crl, issuer, previous, CRLTemplate{Released: released})
	if err := csr.CheckSignature(issuer.PublicKey, crl.SignatureAlgorithm, crl.RawTBSRevocationList, crl.Signature); err != nil {
		f.add(ruleCRLSignature, "%v", err)
	}
	return f.err(advice.Unverified)
}

func lintCRL(f *findings, crl *x509.RevocationList) {
	if crl.Number == nil || crl.Number.Sign() <= 0 || serialOctets(crl.Number) > 20 {
		f.add(ruleCRLNumber, "the number is missing, not positive or longer than 20 octets")
	}
	if !crl.NextUpdate.After(crl.ThisUpdate) {
		f.add(ruleCRLNext, "nextUpdate %s is not ahead of thisUpdate %s", crl.NextUpdate.Format(time.RFC3339), crl.ThisUpdate.Format(time.RFC3339))
	}
	if len(crl.AuthorityKeyId) == 0 {
		f.add(ruleCRLForm, "it has no authority key identifier")
	}
	for n, e := range crl.Extensions {
		if !e.Id.Equal(oidAKI) && !e.Id.Equal(oidCRLNumber) {
			f.add(ruleCRLForm, "extension %v, which a complete CRL of ours does not have", e.Id)
		}
		if slices.ContainsFunc(crl.Extensions[:n], func(o pkix.Extension) bool { return o.Id.Equal(e.Id) }) {
			f.add(ruleCRLForm, "extension %v stands twice", e.Id)
		}
	}
	seen := make(map[serialKey]struct{}, len(crl.RevokedCertificateEntries))
	for n := range crl.RevokedCertificateEntries {
		e := &crl.RevokedCertificateEntries[n]
		lintEntry(f, crl, e)
		key := keyOf(e.SerialNumber)
		if _, twice := seen[key]; twice {
			f.add(ruleCRLEntry, "serial %x stands twice", e.SerialNumber)
		}
		seen[key] = struct{}{}
	}
}

func lintEntry(f *findings, crl *x509.RevocationList, e *x509.RevocationListEntry) {
	if e.SerialNumber.Sign() <= 0 || serialOctets(e.SerialNumber) > 20 {
		f.add(ruleCRLEntry, "serial %x", e.SerialNumber)
	}
	// 7 is not used, and 8 (removeFromCRL) belongs into delta CRLs (RFC 5280, section 5.3.1).
	if e.ReasonCode < 0 || e.ReasonCode > 10 || e.ReasonCode == 7 || e.ReasonCode == 8 {
		f.add(ruleCRLEntry, "serial %x has the reason %d", e.SerialNumber, e.ReasonCode)
	}
	if e.RevocationTime.After(crl.ThisUpdate) {
		f.add(ruleCRLTime, "serial %x is revoked from %s, after thisUpdate", e.SerialNumber, e.RevocationTime.Format(time.RFC3339))
	}
	for _, x := range e.Extensions {
		if !x.Id.Equal(oidReason) { // a certificateIssuer would make it another CA's entry
			f.add(ruleCRLBelongs, "serial %x has the entry extension %v", e.SerialNumber, x.Id)
		}
	}
}

func checkCRLIssuer(f *findings, crl *x509.RevocationList, issuer *x509.Certificate) {
	switch {
	case !issuer.IsCA || issuer.KeyUsage&x509.KeyUsageCRLSign == 0:
		f.add(ruleCRLIssuer, "%s is not a CA with cRLSign", describe(issuer))
	case !bytes.Equal(crl.RawIssuer, issuer.RawSubject):
		f.add(ruleCRLIssuer, "it names %q, the issuer is %q", crl.Issuer, describe(issuer))
	case !fits(issuer.PublicKey, crl.SignatureAlgorithm):
		f.add(ruleCRLIssuer, "%v by a key of %s", crl.SignatureAlgorithm, csr.KeyAlgorithm(issuer.PublicKey))
	}
	if !bytes.Equal(crl.AuthorityKeyId, issuer.SubjectKeyId) {
		f.add(ruleCRLForm, "its authority key identifier %x is not the issuer's %x", crl.AuthorityKeyId, issuer.SubjectKeyId)
	}
	if crl.ThisUpdate.Before(issuer.NotBefore) || crl.ThisUpdate.After(issuer.NotAfter) {
		f.add(ruleCRLThis, "thisUpdate %s lies outside the validity of %s", crl.ThisUpdate.Format(time.RFC3339), describe(issuer))
	}
}

func checkCRLSequence(f *findings, crl *x509.RevocationList, issuer *x509.Certificate, previous *x509.RevocationList, t CRLTemplate) {
	if previous == nil {
		return
	}
	if !bytes.Equal(previous.RawIssuer, issuer.RawSubject) || csr.CheckSignature(issuer.PublicKey, previous.SignatureAlgorithm, previous.RawTBSRevocationList, previous.Signature) != nil {
		f.add(ruleCRLIssuer, "the previous CRL is not one of %s", describe(issuer))
		return
	}
	if previous.Number == nil || crl.Number == nil || crl.Number.Cmp(previous.Number) <= 0 {
		f.add(ruleCRLNumber, "number %v does not rise above %v", crl.Number, previous.Number)
	}
	if crl.ThisUpdate.Before(previous.ThisUpdate) && !t.Redated {
		f.add(ruleCRLThis, "thisUpdate %s is before the previous CRL's %s", crl.ThisUpdate.Format(time.RFC3339), previous.ThisUpdate.Format(time.RFC3339))
	}
	free := make(map[serialKey]bool, len(t.Released))
	for _, r := range t.Released {
		if r != nil {
			free[keyOf(r)] = true
		}
	}
	now := finder{entries: crl.RevokedCertificateEntries}
	for n := range previous.RevokedCertificateEntries {
		e := &previous.RevokedCertificateEntries[n]
		if len(free) > 0 && free[keyOf(e.SerialNumber)] {
			continue
		}
		if is := now.find(e.SerialNumber); is == nil {
			f.add(ruleCRLDrop, "serial %x was revoked and is missing", e.SerialNumber)
		} else if is.RevocationTime.After(e.RevocationTime) {
			f.add(ruleCRLDrop, "serial %x was revoked %s and is now %s", e.SerialNumber, e.RevocationTime.Format(time.RFC3339), is.RevocationTime.Format(time.RFC3339))
		}
	}
}
