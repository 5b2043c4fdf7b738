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
	"io"
	"math/big"
	"slices"
	"time"
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

// parseCRL verifies a DER CRL (RFC 5280, section 5) against the CA certificates and reads its serials. Delta and indirect
// CRLs, critical extensions, and CRLs without number or nextUpdate are refused. Dates are not checked.
func parseCRL(der []byte, cas []*x509.Certificate) (*crl, error) {
	return parseUnsignedCRL(der, cas, false)
}

// parseUnsignedCRL is parseCRL for one that nobody has signed yet, where unsigned is true.
func parseUnsignedCRL(der []byte, cas []*x509.Certificate, unsigned bool) (*crl, error) {
	c, err := readCRL(bytes.NewReader(der), int64(len(der)), cas, unsigned)
	if err != nil {
		return nil, err
	}
	c.digest = sha256.Sum256(der)
	return c, nil
}

// readCRL reads a CRL of size bytes as it comes, and does everything but work out the digest of the file. Of the list itself no more is held than a window.
func readCRL(r io.Reader, size int64, cas []*x509.Certificate, unsigned bool) (*crl, error) {
	if size > MaxCRLSize {
		return nil, errors.New("is too large")
	}
	p := &crlReader{in: window{r: r, buf: make([]byte, 0, max(16, min(size+1, windowSize)))}}
	if err := p.read(size); err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(p.rest)
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
	issuer, err := crlIssuer(list, &p.signed, cas, unsigned)
	if err != nil {
		return nil, err
	}
	// Only now: what is wrong with the entries of a list that nobody has signed says nothing.
	if p.entriesErr != nil {
		return nil, p.entriesErr
	}
	set := p.entries.sorted()
	info := CRLInfo{Issuer: IssuerID(issuer), Number: list.Number, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, Entries: len(set)}
	return &crl{info: info, serials: set}, nil
}

func crlIssuer(list *x509.RevocationList, by *signedPart, cas []*x509.Certificate, unsigned bool) (*x509.Certificate, error) {
	named := false
	for _, ca := range cas {
		if !bytes.Equal(ca.RawSubject, list.RawIssuer) {
			continue
		}
		named = true
		if len(list.AuthorityKeyId) > 0 && len(ca.SubjectKeyId) > 0 && !bytes.Equal(list.AuthorityKeyId, ca.SubjectKeyId) {
			continue
		}
		if unsigned || by.verifies(list, ca) {
			return ca, nil
		}
	}
	if named {
		return nil, errors.New("has a signature that its CA's key does not verify")
	}
	return nil, errors.New("is by a CA that the officers do not name")
}

// maxClockSkew is by how much clocks may differ.
const maxClockSkew = 5 * time.Minute

// checkDates refuses a CRL that nobody may use at now.
func (c *crl) checkDates(now time.Time, p Policy) error {
	if c.info.ThisUpdate.After(now.Add(maxClockSkew)) {
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
