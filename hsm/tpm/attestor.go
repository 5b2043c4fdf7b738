package tpm

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// An attestor is an attestation key: a key that signs nothing but what its TPM says itself, such as that another key was made in it and
// cannot leave. Package attest holds what it signs to a manufacturer's root; nothing here judges anything.

// endorsementFile is a PEM file that somebody may put into a store: the certificate of the endorsement key and those above it, for a TPM
// that holds none, or whose manufacturer publishes them instead.
const endorsementFile = "endorsement.pem"

// attestorTemplate is that of an attestation key: restricted, so that it signs no digest that was given to it from outside unless the TPM
// itself computed it over something that does not look like its own statements.
func attestorTemplate() tpm2.TPMTPublic {
	a := fixed()
	a.Restricted, a.SignEncrypt = true, true
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: a,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})}
}

// Attestor gives the certificate chain of the endorsement key (DER, its own first), the endorsement key and the attestation key (TPMT_PUBLIC
// each). The attestation key is made at the first call, and kept in the store.
func (t *Token) Attestor(ctx context.Context) (chain [][]byte, endorsementKey, attestationKey []byte, err error) {
	chain, endorsementKey, attestationKey, err = t.attestor(ctx)
	return chain, endorsementKey, attestationKey, t.fail(err, "attestation key")
}

func (t *Token) attestor(ctx context.Context) ([][]byte, []byte, []byte, error) {
	b, err := t.attestorBlob(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	type ek struct {
		chain  [][]byte
		public []byte
	}
	e, err := operate(ctx, t.c, func(w *wire) (ek, error) {
		shape, err := t.shape()
		if err != nil {
			return ek{}, err
		}
		chain, err := t.endorsementChain(w, shape)
		if err != nil {
			return ek{}, err
		}
		o, err := loadEndorsement(w, shape)
		if err != nil {
			return ek{}, err
		}
		return ek{chain, tpm2.Marshal(*o.public)}, nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	return e.chain, e.public, b.public[2:], nil
}

// attestorBlob reads the attestation key, or makes it.
func (t *Token) attestorBlob(ctx context.Context) (*blob, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	b, err := t.s.readBlob(attestorFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	lock, err := t.s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	want := attestorTemplate()
	if b, err = operate(ctx, t.c, func(w *wire) (*blob, error) {
		root, err := t.root(w)
		if err != nil {
			return nil, err
		}
		return create(w, root, want, t.pin.Bytes(), nil)
	}); err != nil {
		return nil, err
	}
	pub, err := b.area()
	if err != nil {
		return nil, err
	}
	if !like(pub, &want) {
		return nil, fmt.Errorf("%w: the TPM made another attestation key than it was asked for", hsm.ErrAttributes)
	}
	err = durable.Create(filepath.Join(t.s.dir, attestorFile), b.pem(), 0o600)
	if errors.Is(err, fs.ErrExist) { // another process was faster
		return t.s.readBlob(attestorFile)
	}
	return b, err
}

// shape is how the store's endorsement key is made.
func (t *Token) shape() (*endorsementShape, error) {
	for i := range endorsementShapes {
		if endorsementShapes[i].kind == t.s.EK {
			return &endorsementShapes[i], nil
		}
	}
	return nil, fmt.Errorf("%w: an endorsement key of kind %q", hsm.ErrUnsupported, t.s.EK)
}

// endorsementChain is what the TPM and the store hold of the endorsement key's certificate and those above it.
func (t *Token) endorsementChain(w *wire, shape *endorsementShape) ([][]byte, error) {
	chain, err := readChain(filepath.Join(t.s.dir, endorsementFile))
	if err == nil {
		return chain, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	data, err := readNV(w, shape.nv)
	if errors.Is(err, errNoNV) {
		return nil, advice.New(advice.Failed, "get it from the manufacturer, and put it into the store as "+endorsementFile, "the TPM holds no certificate of its endorsement key")
	}
	if err != nil {
		return nil, err
	}
	cert, err := parseEndorsement(data)
	if err != nil {
		return nil, err
	}
	chain = [][]byte{cert.Raw}
	// The certificates above it, if the manufacturer put them there (TCG EK Credential Profile 2.5, section 2.2.1.5.2): one after the other,
	// in as many areas as it takes.
	var above []byte
	for index := tpm2.TPMHandle(0x01c00100); index < 0x01c00110; index++ {
		part, err := readNV(w, index)
		if errors.Is(err, errNoNV) {
			break
		}
		if err != nil {
			return nil, err
		}
		above = append(above, part...)
	}
	for len(chain) < 6 {
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(above, &raw)
		if err != nil {
			break
		}
		if c, err := x509.ParseCertificate(raw.FullBytes); err == nil {
			chain = append(chain, c.Raw)
		}
		above = rest
	}
	return chain, nil
}

// readChain reads a PEM file of certificates.
func readChain(path string) ([][]byte, error) {
	data, err := input.Read(path, maxBlob)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			chain = append(chain, bytes.Clone(block.Bytes))
		}
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", show.Text(path))
	}
	return chain, nil
}

// withAttestor runs f with the attestation key loaded.
func withAttestor[T any](ctx context.Context, t *Token, f func(w *wire, root, attestor object) (T, error)) (T, error) {
	var none T
	b, err := t.attestorBlob(ctx)
	if err != nil {
		return none, err
	}
	return operate(ctx, t.c, func(w *wire) (T, error) {
		root, err := t.root(w)
		if err != nil {
			return none, err
		}
		o, err := load(w, root, b)
		if err != nil {
			return none, err
		}
		return f(w, root, o)
	})
}

// Activate answers a credential (TPM2_ActivateCredential): the TPM gives its secret out if it was made for its endorsement key and for this
// attestation key. blob is a TPMS_ID_OBJECT, encrypted the content of a TPM2B_ENCRYPTED_SECRET, both without their size.
func (t *Token) Activate(ctx context.Context, blob, encrypted []byte) ([]byte, error) {
	secret, err := withAttestor(ctx, t, func(w *wire, root, attestor object) ([]byte, error) {
		shape, err := t.shape()
		if err != nil {
			return nil, err
		}
		ek, err := loadEndorsement(w, shape)
		if err != nil {
			return nil, err
		}
		// The endorsement key is used by whoever may use the endorsement hierarchy, which has no password.
		policy := tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, func(s transport.TPM, handle tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, PolicySession: handle, NonceTPM: nonce}.Execute(s)
			return err
		})
		answer, err := tpm2.ActivateCredential{ActivateHandle: attestor.with(session(root, t.pin.Bytes(), both)), KeyHandle: ek.with(policy),
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: encrypted}}.Execute(w)
		if err != nil {
			return nil, err
		}
		return answer.CertInfo.Buffer, nil
	})
	if errors.Is(err, tpm2.TPMRCIntegrity) || errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCSize) || errors.Is(err, tpm2.TPMRCFailure) {
		err = advice.New(advice.Refused, "let it be made for the attestor of this very store", "the credential was made for another TPM or another attestation key, or was changed: %w", err)
	}
	return secret, t.fail(err, "activate a credential")
}

// Certify has the attestation key certify a key of the store (TPM2_Certify) for this qualifying data of up to 32 bytes. It gives the
// key's public area (TPMT_PUBLIC), the statement (TPMS_ATTEST) and its signature (TPMT_SIGNATURE).
func (t *Token) Certify(ctx context.Context, key hsm.Key, qualifying []byte) (public, statement, signature []byte, err error) {
	k, ok := key.(*Key)
	if !ok || k.t != t {
		return nil, nil, nil, advice.New(advice.Usage, "", "%s: certify a key of another token", t.Info().Name())
	}
	type made struct{ statement, signature []byte }
	m, err := withAttestor(ctx, t, func(w *wire, root, attestor object) (made, error) {
		// Three objects at most: the storage root key stays, for the sessions' salt.
		o, err := k.load(w, root)
		if err != nil {
			return made{}, err
		}
		// Certification asks for the key's authorisation as its administrator: its PIN, whatever its policy for use.
		answer, err := tpm2.Certify{ObjectHandle: o.with(session(root, t.pin.Bytes(), both)), SignHandle: attestor.with(tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, tpm2.Auth(t.pin.Bytes()), tpm2.Salted(root.handle, *root.public))),
			QualifyingData: tpm2.TPM2BData{Buffer: qualifying}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}}.Execute(w)
		if err != nil {
			return made{}, err
		}
		return made{answer.CertifyInfo.Bytes(), tpm2.Marshal(answer.Signature)}, nil
	})
	if err != nil {
		return nil, nil, nil, t.fail(err, "certify %s", k.name())
	}
	return tpm2.Marshal(*k.f.public), m.statement, m.signature, nil
}
