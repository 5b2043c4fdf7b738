package trust

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// serial is a certificate's serial number, big-endian, padded on the left.
type serial [20]byte

func serialOf(n *big.Int) (serial, bool) {
	var s serial
	if n == nil || n.Sign() < 0 || n.BitLen() > 8*len(s) {
		return s, false
	}
	n.FillBytes(s[:])
	return s, true
}

// serials is a sorted set.
type serials []serial

// compareSerials orders by value. It looks at eight bytes at once, for a million serials are sorted with it.
func compareSerials(a, b serial) int {
	if x, y := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(b[:8]); x != y {
		return cmp.Compare(x, y)
	}
	return bytes.Compare(a[8:], b[8:])
}

func (s serials) has(x serial) bool {
	lo, hi := 0, len(s)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch bytes.Compare(s[mid][:], x[:]) {
		case 0:
			return true
		case -1:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return false
}

// lacks returns a serial that is in want but neither in s nor in except.
func (s serials) lacks(want, except serials) (serial, bool) {
	i := 0
	for _, w := range want {
		for i < len(s) && compareSerials(s[i], w) < 0 {
			i++
		}
		if (i == len(s) || s[i] != w) && !except.has(w) {
			return w, true
		}
	}
	return serial{}, false
}

// union makes a new set of both, or returns one of them where it is enough.
func union(a, b serials) serials {
	if _, lacking := a.lacks(b, nil); !lacking {
		return a
	}
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, compareSerials)
	return slices.Compact(all)
}

// crl is what remains of a verified CRL: the list itself is dropped.
type crl struct {
	info    CRLInfo
	serials serials
	digest  [32]byte
}

var oidDeltaCRL = asn1.ObjectIdentifier{2, 5, 29, 27}

// The entry extensions reasonCode (2.5.29.21) and certificateIssuer (2.5.29.29), as DER contents: decoding an OID for each of a
// million entries costs more than all the rest.
var derReason, derCertificateIssuer = []byte{0x55, 0x1d, 21}, []byte{0x55, 0x1d, 29}

// reasonRemoved is removeFromCRL, which only a delta CRL may hold (RFC 5280, section 5.3.1).
const reasonRemoved = 8

// parseCRL verifies a DER CRL (RFC 5280, section 5) against the CA certificates and reads its serials. Delta and indirect
// CRLs, critical extensions, and CRLs without number or nextUpdate are refused. Dates are not checked.
func parseCRL(der []byte, cas []*x509.Certificate) (*crl, error) {
	return parseUnsignedCRL(der, cas, false)
}

// parseCRLOf is parseCRL for a file whose SHA-256 the caller has worked out.
func parseCRLOf(der []byte, digest [32]byte, cas []*x509.Certificate) (*crl, error) {
	c, err := readCRL(der, cas, false)
	if err != nil {
		return nil, err
	}
	c.digest = digest
	return c, nil
}

// parseUnsignedCRL is parseCRL for one that nobody has signed yet, where unsigned is true.
func parseUnsignedCRL(der []byte, cas []*x509.Certificate, unsigned bool) (*crl, error) {
	c, err := readCRL(der, cas, unsigned)
	if err != nil {
		return nil, err
	}
	c.digest = sha256.Sum256(der)
	return c, nil
}

// readCRL does everything but work out the digest.
func readCRL(der []byte, cas []*x509.Certificate, unsigned bool) (*crl, error) {
	if len(der) > MaxCRLSize {
		return nil, errors.New("is too large")
	}
	tbs, revoked, header, err := splitCRL(der)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(header)
	if err != nil {
		return nil, err
	}
	for _, e := range list.Extensions {
		if e.Critical || e.Id.Equal(oidDeltaCRL) {
			return nil, errors.New("is a delta CRL or has a critical extension: only full CRLs are accepted")
		}
	}
	if list.Number == nil || list.Number.Sign() < 0 || len(list.Number.Bytes()) > MaxCRLNumberOctets {
		return nil, errors.New("has no CRL number, or one out of bounds")
	}
	if list.NextUpdate.IsZero() || !list.NextUpdate.After(list.ThisUpdate) {
		return nil, errors.New("has no nextUpdate, or one before thisUpdate")
	}
	list.RawTBSRevocationList = tbs
	issuer, err := crlIssuer(list, cas, unsigned)
	if err != nil {
		return nil, err
	}
	set, err := parseEntries(revoked)
	if err != nil {
		return nil, err
	}
	info := CRLInfo{Issuer: IssuerID(issuer), Number: list.Number, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, Entries: len(set)}
	return &crl{info: info, serials: set}, nil
}

// splitCRL takes a CRL apart into the signed bytes, the revoked entries, and the same CRL without them: the standard library
// parses that (with the true signature, over other bytes), and needs no memory for a million entries.
func splitCRL(der []byte) (tbs, revoked, header []byte, err error) {
	bad := errors.New("is not a DER CRL")
	in := cryptobyte.String(der)
	var outer, tbsElement, rest cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1Element(&tbsElement, cbasn1.SEQUENCE) {
		return nil, nil, nil, bad
	}
	tbs, rest = tbsElement, outer
	var body cryptobyte.String
	if !tbsElement.ReadASN1(&body, cbasn1.SEQUENCE) {
		return nil, nil, nil, bad
	}
	// version, signature, issuer, thisUpdate, nextUpdate: what is not there the standard library will miss.
	head := []byte(body)
	for _, tag := range []cbasn1.Tag{cbasn1.INTEGER, cbasn1.SEQUENCE, cbasn1.SEQUENCE} {
		if !body.SkipASN1(tag) {
			return nil, nil, nil, bad
		}
	}
	for range 2 {
		if !body.SkipASN1(cbasn1.UTCTime) && !body.SkipASN1(cbasn1.GeneralizedTime) {
			return nil, nil, nil, bad
		}
	}
	head = head[:len(head)-len(body)]
	var list cryptobyte.String
	if body.PeekASN1Tag(cbasn1.SEQUENCE) && !body.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil, nil, nil, bad
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(head)
			b.AddBytes(body)
		})
		b.AddBytes(rest)
	})
	header, err = b.Bytes()
	return tbs, list, header, err
}

func crlIssuer(list *x509.RevocationList, cas []*x509.Certificate, unsigned bool) (*x509.Certificate, error) {
	named := false
	for _, ca := range cas {
		if !bytes.Equal(ca.RawSubject, list.RawIssuer) {
			continue
		}
		named = true
		if len(list.AuthorityKeyId) > 0 && len(ca.SubjectKeyId) > 0 && !bytes.Equal(list.AuthorityKeyId, ca.SubjectKeyId) {
			continue
		}
		if unsigned || list.CheckSignatureFrom(ca) == nil {
			return ca, nil
		}
	}
	if named {
		return nil, errors.New("has a signature that its CA's key does not verify")
	}
	return nil, errors.New("is by a CA that the officers do not name")
}

// parseEntries reads the revokedCertificates of a CRL.
func parseEntries(list cryptobyte.String) (serials, error) {
	bad := errors.New("holds a malformed entry")
	n := 0
	for rest := list; rest.SkipASN1(cbasn1.SEQUENCE); n++ {
		if n == MaxCRLEntries {
			return nil, errors.New("holds too many entries")
		}
	}
	set := make(serials, 0, n)
	sorted := true
	for !list.Empty() {
		var entry, number cryptobyte.String
		if !list.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadASN1(&number, cbasn1.INTEGER) {
			return nil, bad
		}
		var s serial
		if len(number) == 0 || len(number) > len(s) || number[0]&0x80 != 0 || len(number) > 1 && number[0] == 0 && number[1]&0x80 == 0 {
			return nil, errors.New("revokes a serial that is not a positive number of at most 20 octets")
		}
		if !entry.SkipASN1(cbasn1.UTCTime) && !entry.SkipASN1(cbasn1.GeneralizedTime) {
			return nil, bad
		}
		if !entry.Empty() {
			if err := checkEntryExtensions(entry); err != nil {
				return nil, err
			}
		}
		copy(s[len(s)-len(number):], number)
		sorted = sorted && (len(set) == 0 || compareSerials(set[len(set)-1], s) < 0)
		set = append(set, s)
	}
	if !sorted {
		slices.SortFunc(set, compareSerials)
		set = slices.Compact(set)
	}
	return set, nil
}

var errEntryExtensions = errors.New("holds an entry with malformed extensions")

func checkEntryExtensions(entry cryptobyte.String) error {
	var exts cryptobyte.String
	if !entry.ReadASN1(&exts, cbasn1.SEQUENCE) || !entry.Empty() {
		return errEntryExtensions
	}
	for !exts.Empty() {
		var ext, oid, critical, value cryptobyte.String
		if !exts.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
			ext.PeekASN1Tag(cbasn1.BOOLEAN) && (!ext.ReadASN1(&critical, cbasn1.BOOLEAN) || len(critical) != 1) || !ext.ReadASN1(&value, cbasn1.OCTET_STRING) || !ext.Empty() {
			return errEntryExtensions
		}
		// DER says FALSE by leaving it out; anything said is taken as TRUE.
		if critical != nil || bytes.Equal(oid, derCertificateIssuer) {
			return errors.New("is an indirect CRL or has an entry with a critical extension: only plain full CRLs are accepted")
		}
		if bytes.Equal(oid, derReason) {
			var reason cryptobyte.String
			if !value.ReadASN1(&reason, cbasn1.ENUM) || !value.Empty() || len(reason) != 1 || reason[0] > 10 {
				return errEntryExtensions
			}
			if reason[0] == reasonRemoved {
				return errors.New("holds a removeFromCRL entry: only full CRLs are accepted")
			}
		}
	}
	return nil
}

// checkDates refuses a CRL that nobody may use at now. Clocks may differ by five minutes.
func (c *crl) checkDates(now time.Time, p Policy) error {
	if c.info.ThisUpdate.After(now.Add(5 * time.Minute)) {
		return errors.New("is dated in the future")
	}
	if !now.Before(p.CRLUntil(c.info)) {
		return errors.New("is past its nextUpdate")
	}
	return nil
}

// derCRL takes a CRL out of its PEM armour, if it has one.
func derCRL(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("-----BEGIN")) {
		return data, nil
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("is not one PEM CRL")
	}
	return block.Bytes, nil
}
