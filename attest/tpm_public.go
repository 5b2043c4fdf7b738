package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/weakkey"
)

// decode reads one structure of a TPM (TPM 2.0 Library, part 2) that must be all of data, in its one encoding.
func decode[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](what string, data []byte) (t *T, err error) {
	if len(data) == 0 {
		return nil, refuse(ErrMalformed, "there is no %s", what)
	}
	if len(data) > maxTPMStructure {
		return nil, refuse(ErrTooLarge, "the %s has %d octets", what, len(data))
	}
	defer func() { // go-tpm panics where a value that it has read cannot be written again
		if p := recover(); p != nil {
			t, err = nil, refuse(ErrMalformed, "%s: %s", what, show.Line(fmt.Sprint(p)))
		}
	}()
	t, err = tpm2.Unmarshal[T, P](data)
	if err != nil {
		return nil, refuse(ErrMalformed, "%s: %s", what, show.Line(err.Error()))
	}
	if !bytes.Equal(tpm2.Marshal(*t), data) {
		return nil, refuse(ErrMalformed, "the %s has octets too many or is not in its one encoding", what)
	}
	return t, nil
}

// tpmKey is the public area of an asymmetric key of a TPM.
type tpmKey struct {
	area *tpm2.TPMTPublic
	// pub is the key in Go's types: *rsa.PublicKey or *ecdsa.PublicKey.
	pub crypto.PublicKey
	// name is the TPM's name of the object: the hash algorithm and the hash of the public area.
	name []byte
}

// parseTPMKey reads a TPMT_PUBLIC (part 2, section 12.2.4): RSA of 2048 to 4096 bits or a NIST curve, named with SHA-2.
func parseTPMKey(what string, data []byte) (*tpmKey, error) {
	area, err := decode[tpm2.TPMTPublic]("public area of the "+what, data)
	if err != nil {
		return nil, err
	}
	switch area.NameAlg {
	case tpm2.TPMAlgSHA256, tpm2.TPMAlgSHA384, tpm2.TPMAlgSHA512:
	default:
		return nil, refuse(ErrWeakKey, "the %s is named with hash algorithm 0x%04x, not SHA-256 or better", what, uint16(area.NameAlg))
	}
	// Part 1, section "Names": the algorithm and the hash of the public area, which is all of data.
	k := &tpmKey{area: area, name: append([]byte{byte(area.NameAlg >> 8), byte(area.NameAlg)}, hashOf(sha2(area.NameAlg), data)...)}
	switch area.Type {
	case tpm2.TPMAlgRSA:
		k.pub, err = rsaOf(what, area)
	case tpm2.TPMAlgECC:
		k.pub, err = eccOf(what, area)
	default:
		err = refuse(ErrMalformed, "the %s is of type 0x%04x, neither RSA nor ECC", what, uint16(area.Type))
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// strong refuses a key that was known to be weak in a format's time; today for the zero value.
func (k *tpmKey) strong(what string, asOf format.Version) error {
	if fault := weakkey.FaultAsOf(asOf, k.pub); fault != "" {
		return refuse(ErrWeakKey, "%s: %s", what, fault)
	}
	return nil
}

func rsaOf(what string, area *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	params, err := area.Parameters.RSADetail()
	if err != nil {
		return nil, refuse(ErrMalformed, "%s: %w", what, err)
	}
	modulus, err := area.Unique.RSA()
	if err != nil {
		return nil, refuse(ErrMalformed, "%s: %w", what, err)
	}
	k := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus.Buffer), E: int(params.Exponent)}
	if k.E == 0 { // the default
		k.E = 65537
	}
	bits := k.N.BitLen()
	switch {
	case bits < minRSABits || bits > maxRSABits:
		return nil, refuse(ErrWeakKey, "the %s has an RSA modulus of %d bits, not %d to %d", what, bits, minRSABits, maxRSABits)
	case bits != int(params.KeyBits) || len(modulus.Buffer) != bits/8:
		return nil, refuse(ErrMalformed, "the %s says %d bits and has %d", what, params.KeyBits, bits)
	case k.E < 65537 || k.E%2 == 0 || k.E > 1<<31-1:
		return nil, refuse(ErrWeakKey, "the %s has the RSA exponent %d", what, k.E)
	}
	return k, nil
}

func eccOf(what string, area *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	params, err := area.Parameters.ECCDetail()
	if err != nil {
		return nil, refuse(ErrMalformed, "%s: %w", what, err)
	}
	point, err := area.Unique.ECC()
	if err != nil {
		return nil, refuse(ErrMalformed, "%s: %w", what, err)
	}
	var curve elliptic.Curve
	switch params.CurveID {
	case tpm2.TPMECCNistP256:
		curve = elliptic.P256()
	case tpm2.TPMECCNistP384:
		curve = elliptic.P384()
	case tpm2.TPMECCNistP521:
		curve = elliptic.P521()
	default:
		return nil, refuse(ErrWeakKey, "the %s lies on curve 0x%04x, not P-256, P-384 or P-521", what, uint16(params.CurveID))
	}
	size := (curve.Params().BitSize + 7) / 8
	x, y := point.X.Buffer, point.Y.Buffer
	if len(x) > size || len(y) > size {
		return nil, refuse(ErrMalformed, "the %s has a coordinate of more than %d octets", what, size)
	}
	raw := make([]byte, 1+2*size)
	raw[0] = 4
	copy(raw[1+size-len(x):], x)
	copy(raw[1+2*size-len(y):], y)
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, raw) // checks that the point lies on the curve
	if err != nil {
		return nil, refuse(ErrMalformed, "%s: %w", what, err)
	}
	return pub, nil
}

// born lists which of the attributes are missing that say: made in this TPM, and never leaves it.
func (k *tpmKey) born() string {
	a := k.area.ObjectAttributes
	switch {
	case !a.FixedTPM:
		return "it is not fixedTPM"
	case !a.FixedParent:
		return "it is not fixedParent"
	case !a.SensitiveDataOrigin:
		return "it is not sensitiveDataOrigin: somebody brought the secret"
	}
	return ""
}

// checkEK holds an endorsement key's public area to its certificate's key, and to what an endorsement key is (TCG EK
// Credential Profile, section 2.1.5): a key made in the TPM that only decrypts, within structures that the TPM knows.
func (k *tpmKey) checkEK(cert crypto.PublicKey) error {
	if !sameKey(k.pub, cert) {
		return refuse(ErrEK, "the public area holds another key than the certificate")
	}
	if fault := k.born(); fault != "" {
		return refuse(ErrEK, "%s", fault)
	}
	a := k.area.ObjectAttributes
	if !a.Restricted || !a.Decrypt || a.SignEncrypt {
		return refuse(ErrEK, "it is not restricted to decrypting")
	}
	sym := k.symmetric()
	if sym == nil || sym.Algorithm != tpm2.TPMAlgAES {
		return refuse(ErrEK, "it protects secrets with another cipher than AES")
	}
	bits, err := sym.KeyBits.AES()
	if err != nil || *bits != 128 && *bits != 192 && *bits != 256 {
		return refuse(ErrEK, "it protects secrets with an AES key of unknown size")
	}
	if mode, err := sym.Mode.AES(); err != nil || *mode != tpm2.TPMAlgCFB {
		return refuse(ErrEK, "it protects secrets in another mode than CFB")
	}
	return nil
}

func (k *tpmKey) symmetric() *tpm2.TPMTSymDefObject {
	if p, err := k.area.Parameters.RSADetail(); err == nil {
		return &p.Symmetric
	}
	if p, err := k.area.Parameters.ECCDetail(); err == nil {
		return &p.Symmetric
	}
	return nil
}

// checkAK: a restricted signing key signs only what its TPM has made or hashed itself, and nothing that an outsider gave
// it that begins like a statement of the TPM (part 1, section "Restricted Attribute"). Everything hangs on that.
func (k *tpmKey) checkAK() error {
	if fault := k.born(); fault != "" {
		return refuse(ErrAK, "%s", fault)
	}
	a := k.area.ObjectAttributes
	switch {
	case !a.Restricted:
		return refuse(ErrAK, "it is not restricted: it signs whatever it is given")
	case !a.SignEncrypt:
		return refuse(ErrAK, "it does not sign")
	case a.Decrypt:
		return refuse(ErrAK, "it decrypts too")
	}
	_, _, err := k.scheme()
	return err
}

// scheme is the signature scheme that a restricted signing key has for good.
func (k *tpmKey) scheme() (alg tpm2.TPMIAlgSigScheme, hash crypto.Hash, err error) {
	var hashAlg tpm2.TPMIAlgHash
	if p, rsaErr := k.area.Parameters.RSADetail(); rsaErr == nil {
		alg = tpm2.TPMIAlgSigScheme(p.Scheme.Scheme)
		if s, e := p.Scheme.Details.RSASSA(); e == nil && alg == tpm2.TPMAlgRSASSA {
			hashAlg = s.HashAlg
		} else if s, e := p.Scheme.Details.RSAPSS(); e == nil && alg == tpm2.TPMAlgRSAPSS {
			hashAlg = s.HashAlg
		}
	} else if p, eccErr := k.area.Parameters.ECCDetail(); eccErr == nil {
		alg = tpm2.TPMIAlgSigScheme(p.Scheme.Scheme)
		if s, e := p.Scheme.Details.ECDSA(); e == nil && alg == tpm2.TPMAlgECDSA {
			hashAlg = s.HashAlg
		}
	}
	if hash = sha2(hashAlg); hash == 0 {
		return 0, 0, refuse(ErrAK, "its scheme 0x%04x with hash 0x%04x is not RSASSA, RSAPSS or ECDSA with SHA-256 or better", uint16(alg), uint16(hashAlg))
	}
	return alg, hash, nil
}

func sha2(alg tpm2.TPMIAlgHash) crypto.Hash {
	switch alg {
	case tpm2.TPMAlgSHA256:
		return crypto.SHA256
	case tpm2.TPMAlgSHA384:
		return crypto.SHA384
	case tpm2.TPMAlgSHA512:
		return crypto.SHA512
	}
	return 0
}

// checkBorn holds the key that is certified to its attributes.
func (k *tpmKey) checkBorn(use KeyUse) error {
	if fault := k.born(); fault != "" {
		return refuse(ErrKeyAttributes, "%s", fault)
	}
	a := k.area.ObjectAttributes
	switch {
	case a.Restricted:
		return refuse(ErrKeyAttributes, "it is restricted, so that it is no key for requests or connections")
	case use == Signs && !a.SignEncrypt:
		return refuse(ErrKeyAttributes, "it does not sign")
	case use == Decrypts && !a.Decrypt:
		return refuse(ErrKeyAttributes, "it does not decrypt")
	}
	return nil
}

// KeyOf is the key that a TPMT_PUBLIC holds. It says nothing of where the key was born.
func KeyOf(public []byte) (crypto.PublicKey, error) {
	k, err := parseTPMKey("key", public)
	if err == nil {
		err = k.strong("key", format.Version{})
	}
	if err != nil {
		return nil, err
	}
	return k.pub, nil
}
