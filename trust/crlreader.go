package trust

// A CRL is read in one pass: the signed bytes go into a hash, serials into a table, and what is left, a CRL without entries, to crypto/x509. Until the signature was
// verified, at the end, all that was read is an attacker's, bounded by what the signed metadata says of the file's length.

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// windowSize is how much of a file is looked at at once, in bytes.
const windowSize = 256 << 10

// window is the part of a stream that is looked at: whole elements of DER, one after the other.
type window struct {
	r   io.Reader
	buf []byte
	// pos is the first byte that was not passed yet.
	pos int
	// sum gets what was passed from buf[from] on; nil for nothing.
	sum  io.Writer
	from int
}

var errNotDER = errors.New("is not a DER CRL")

// peek gives the next n bytes, which stand until the next call.
func (w *window) peek(n int) ([]byte, error) {
	for len(w.buf)-w.pos < n {
		if w.pos > 0 {
			w.flush()
			w.buf = w.buf[:copy(w.buf, w.buf[w.pos:])]
			w.pos, w.from = 0, 0
		}
		if len(w.buf) == cap(w.buf) {
			// Grown as the bytes come, not as a length has it that nobody vouches for.
			w.buf = slices.Grow(w.buf, cap(w.buf))
		}
		got, err := w.r.Read(w.buf[len(w.buf):cap(w.buf)])
		w.buf = w.buf[:len(w.buf)+got]
		if got == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = errNotDER
			}
			return nil, err
		}
	}
	return w.buf[w.pos : w.pos+n], nil
}

// pass passes n bytes that were looked at.
func (w *window) pass(n int) { w.pos += n }

func (w *window) flush() {
	if w.sum != nil {
		_, _ = w.sum.Write(w.buf[w.from:w.pos])
	}
	w.from = w.pos
}

// sumTo has sum get what is passed from now on; nil ends that.
func (w *window) sumTo(sum io.Writer) {
	w.flush()
	w.sum = sum
}

// header reads the tag and the length of the next element, of which at most left bytes are there, and passes nothing: low tags, and lengths in their shortest form.
func (w *window) header(left int64) (tag cbasn1.Tag, head, size int64, err error) {
	b, err := w.peek(int(min(2, left)))
	if err != nil {
		return 0, 0, 0, err
	}
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, 0, 0, errNotDER
	}
	tag, head, size = cbasn1.Tag(b[0]), 2, int64(b[1])
	if size >= 0x80 {
		n := int(size & 0x7f)
		if n == 0 || n > 4 || int64(n)+2 > left {
			return 0, 0, 0, errNotDER
		}
		if b, err = w.peek(2 + n); err != nil {
			return 0, 0, 0, err
		}
		var long [8]byte
		copy(long[8-n:], b[2:])
		head, size = int64(2+n), int64(binary.BigEndian.Uint64(long[:]))
		if size < 0x80 || size>>(8*(n-1)) == 0 {
			return 0, 0, 0, errNotDER
		}
	}
	if head+size > left {
		return 0, 0, 0, errNotDER
	}
	return tag, head, size, nil
}

// take passes the next n bytes, and gives a copy of them.
func (w *window) take(n int64) ([]byte, error) {
	b, err := w.peek(int(n))
	if err != nil {
		return nil, err
	}
	w.pass(int(n))
	return bytes.Clone(b), nil
}

// skip passes the next n bytes, however many.
func (w *window) skip(n int64) error {
	for n > 0 {
		part := min(n, windowSize)
		if _, err := w.peek(int(part)); err != nil {
			return err
		}
		w.pass(int(part))
		n -= part
	}
	return nil
}

// crlReader reads one CRL.
type crlReader struct {
	in window
	// rest is the CRL without its entries, its signature being that over all of it.
	rest    []byte
	signed  signedPart
	entries entryTable
	// entriesErr is what is wrong with the entries.
	entriesErr error
}

func (p *crlReader) read(size int64) error {
	tag, head, inner, err := p.in.header(size)
	if err != nil || tag != cbasn1.SEQUENCE || head+inner != size {
		return orNotDER(err)
	}
	p.in.pass(int(head))
	tag, head, left, err := p.in.header(inner)
	if err != nil || tag != cbasn1.SEQUENCE {
		return orNotDER(err)
	}
	inner -= head + left
	front, err := p.in.take(head)
	if err != nil {
		return err
	}
	// version, signature, issuer, thisUpdate, nextUpdate: what is not there the standard library would miss.
	var fields []byte
	for i := range 5 {
		tag, head, n, err := p.in.header(left)
		if err != nil || !fieldTag(i, tag) {
			return orNotDER(err)
		}
		field, err := p.in.take(head + n)
		if err != nil {
			return err
		}
		fields = append(fields, field...)
		left -= head + n
	}
	if err := p.signed.begin(fields); err != nil {
		return err
	}
	p.signed.write(front, fields)
	p.in.sumTo(&p.signed)
	if left > 0 {
		tag, head, n, err := p.in.header(left)
		if err != nil {
			return err
		}
		if tag == cbasn1.SEQUENCE {
			p.in.pass(int(head))
			if err := p.readEntries(n); err != nil {
				return err
			}
			left -= head + n
			if left > 0 {
				if tag, _, _, err = p.in.header(left); err != nil || tag == cbasn1.SEQUENCE {
					return orNotDER(err) // a second list would be taken for the first
				}
			}
		}
	}
	tail, err := p.in.take(left)
	if err != nil {
		return err
	}
	p.in.sumTo(nil)
	outer, err := p.in.take(inner)
	if err != nil {
		return err
	}
	p.rest, err = assemble(fields, tail, outer)
	return err
}

func orNotDER(err error) error {
	if err != nil {
		return err
	}
	return errNotDER
}

func fieldTag(i int, tag cbasn1.Tag) bool {
	switch i {
	case 0:
		return tag == cbasn1.INTEGER
	case 1, 2:
		return tag == cbasn1.SEQUENCE
	}
	return tag == cbasn1.UTCTime || tag == cbasn1.GeneralizedTime
}

// assemble makes a CRL of the fields before the entries, those after them, and what follows the signed part.
func assemble(fields, tail, outer []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(fields)
			b.AddBytes(tail)
		})
		b.AddBytes(outer)
	})
	return b.Bytes()
}

// signedPart is what of the signed bytes a signature is verified with: their hash, or, for Ed25519 (RFC 8032), which hashes a part of the signature first, all of them.
type signedPart struct {
	hash  crypto.Hash
	sum   hash.Hash
	whole *bytes.Buffer
}

// begin finds the algorithm in the fields before the entries, by having the standard library read a CRL of them alone.
func (s *signedPart) begin(fields []byte) error {
	in := cryptobyte.String(fields)
	var algorithm cryptobyte.String
	if !in.SkipASN1(cbasn1.INTEGER) || !in.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) {
		return errNotDER
	}
	der, err := assemble(fields, nil, append(bytes.Clone(algorithm), byte(cbasn1.BIT_STRING), 1, 0))
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	switch list.SignatureAlgorithm {
	case x509.PureEd25519:
		s.whole = &bytes.Buffer{}
		return nil
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		s.hash = crypto.SHA1
	case x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		s.hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		s.hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		s.hash = crypto.SHA512
	default:
		return nil // no key verifies it
	}
	s.sum = s.hash.New()
	return nil
}

func (s *signedPart) write(parts ...[]byte) {
	for _, b := range parts {
		_, _ = s.Write(b)
	}
}

// Write implements io.Writer.
func (s *signedPart) Write(b []byte) (int, error) {
	switch {
	case s.whole != nil:
		return s.whole.Write(b)
	case s.sum != nil:
		return s.sum.Write(b)
	}
	return len(b), nil
}

// verifies is list.CheckSignatureFrom(ca) for the bytes that were read, of which list lacks the entries.
func (s *signedPart) verifies(list *x509.RevocationList, ca *x509.Certificate) bool {
	if s.whole != nil {
		l := *list
		l.RawTBSRevocationList = s.whole.Bytes()
		return l.CheckSignatureFrom(ca) == nil
	}
	if s.sum == nil || ca.Version == 3 && !ca.BasicConstraintsValid || ca.BasicConstraintsValid && !ca.IsCA || ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return false
	}
	digest := s.sum.Sum(nil)
	switch list.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA:
		pub, ok := ca.PublicKey.(*rsa.PublicKey)
		return ok && rsa.VerifyPKCS1v15(pub, s.hash, digest, list.Signature) == nil
	case x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		pub, ok := ca.PublicKey.(*rsa.PublicKey)
		return ok && rsa.VerifyPSS(pub, s.hash, digest, list.Signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case x509.ECDSAWithSHA1, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		pub, ok := ca.PublicKey.(*ecdsa.PublicKey)
		return ok && ecdsa.VerifyASN1(pub, digest, list.Signature)
	}
	return false
}

// readEntries reads the revokedCertificates, size bytes of them. What is wrong with one is noted; an error is one of the whole.
func (p *crlReader) readEntries(size int64) error {
	p.entries.left = size
	for p.entries.left > 0 && p.entriesErr == nil {
		tag, head, n, err := p.in.header(p.entries.left)
		if errors.Is(err, errNotDER) || err == nil && tag != cbasn1.SEQUENCE {
			p.entriesErr = errEntry
			break
		}
		if err != nil {
			return err
		}
		b, err := p.in.peek(int(head + n))
		if err != nil {
			return err
		}
		p.entriesErr = p.entries.add(b, int(head))
		p.in.pass(int(head + n))
		p.entries.left -= head + n
	}
	return p.in.skip(p.entries.left)
}

// entryTable is the serials of a list.
type entryTable struct {
	set      serials
	disorder bool
	// left is how many bytes of the list are still to come.
	left int64
	// oid is the last object identifier that was seen to be one.
	oid []byte
}

var (
	errEntry           = errors.New("holds a malformed entry")
	errEntryExtensions = errors.New("holds an entry with malformed extensions")
)

// The entry extensions reasonCode (2.5.29.21) and certificateIssuer (2.5.29.29), as DER contents: decoding an OID for each of a
// million entries costs more than all the rest.
var derReason, derCertificateIssuer = []byte{0x55, 0x1d, 21}, []byte{0x55, 0x1d, 29}

// reasonRemoved is removeFromCRL, which only a delta CRL may hold (RFC 5280, section 5.3.1).
const reasonRemoved = 8

// add adds the serial of an entry, of which the first head bytes are tag and length.
func (t *entryTable) add(element []byte, head int) error {
	if len(t.set) == MaxCRLEntries {
		return errors.New("holds too many entries")
	}
	entry := cryptobyte.String(element[head:])
	var number cryptobyte.String
	if !entry.ReadASN1(&number, cbasn1.INTEGER) {
		return errEntry
	}
	var s serial
	if len(number) == 0 || len(number) > len(s) || number[0]&0x80 != 0 || len(number) > 1 && number[0] == 0 && number[1]&0x80 == 0 {
		return errors.New("revokes a serial that is not a positive number of at most 20 octets")
	}
	if !skipTime(&entry) {
		return errEntry
	}
	if !entry.Empty() {
		if err := t.checkExtensions(entry); err != nil {
			return err
		}
	}
	copy(s[len(s)-len(number):], number)
	if n := len(t.set); n > 0 && compareSerials(t.set[n-1], s) >= 0 {
		t.disorder = true
	}
	if len(t.set) == cap(t.set) {
		// As many as follow if they are as long as this one, and a few: mostly all that are there, so that the table is made once. A quarter at least: nobody makes it be
		// copied again and again.
		follow := t.left / int64(len(element))
		more := min(max(follow+follow/64+16, int64(len(t.set)/4)), int64(MaxCRLEntries-len(t.set)))
		t.set = append(make(serials, 0, len(t.set)+int(more)), t.set...)
	}
	t.set = append(t.set, s)
	return nil
}

// sorted is the set, of which nothing more comes.
func (t *entryTable) sorted() serials {
	if t.disorder {
		slices.SortFunc(t.set, compareSerials)
		t.set = slices.Compact(t.set)
	}
	return t.set
}

// skipTime passes a time as crypto/x509 reads it. The one that nearly all lists have is looked at by hand.
func skipTime(entry *cryptobyte.String) bool {
	if b := *entry; len(b) >= 15 && b[0] == byte(cbasn1.UTCTime) && b[1] == 13 && plainTime(b[2:15]) {
		*entry = b[15:]
		return true
	}
	var t time.Time
	if entry.PeekASN1Tag(cbasn1.UTCTime) {
		return entry.ReadASN1UTCTime(&t)
	}
	return entry.ReadASN1GeneralizedTime(&t)
}

// plainTime says whether b is YYMMDDHHMMSSZ, of a day that every month has; what it does not know may be a time all the same.
func plainTime(b []byte) bool {
	for _, c := range b[:12] {
		if c < '0' || c > '9' {
			return false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	return b[12] == 'Z' && two(2) >= 1 && two(2) <= 12 && two(4) >= 1 && two(4) <= 28 && two(6) < 24 && two(8) < 60 && two(10) < 60
}

func (t *entryTable) checkExtensions(entry cryptobyte.String) error {
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
		} else if !t.known(oid) {
			return errEntryExtensions
		}
	}
	return nil
}

// known says whether these are the contents of an object identifier.
func (t *entryTable) known(oid []byte) bool {
	if t.oid != nil && bytes.Equal(t.oid, oid) {
		return true
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oid) })
	der, err := b.Bytes()
	in := cryptobyte.String(der)
	if err != nil || !in.ReadASN1ObjectIdentifier(new(asn1.ObjectIdentifier)) {
		return false
	}
	t.oid = bytes.Clone(oid)
	return true
}
