package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// exchanger is an elliptic-curve key for Diffie-Hellman, as crypto/hpke takes it.
type exchanger struct {
	k      *Key
	public *ecdh.PublicKey
}

var _ ecdh.KeyExchanger = (*exchanger)(nil)

// KeyExchanger is the key as crypto/hpke and others take it. Only keys of hsm.Agreement have it.
func (k *Key) KeyExchanger() (ecdh.KeyExchanger, error) {
	pub, ok := k.f.key.(*ecdsa.PublicKey)
	if !ok || !k.f.attributes().Derive {
		return nil, advice.New(advice.Usage, "generate one for agreement, on P-256 or P-384", "%s: %s is not for key agreement", k.t.Info().Name(), k.name())
	}
	public, err := pub.ECDH()
	if err != nil {
		return nil, k.t.fail(err, "%s", k.name())
	}
	return &exchanger{k: k, public: public}, nil
}

func (e *exchanger) PublicKey() *ecdh.PublicKey { return e.public }
func (e *exchanger) Curve() ecdh.Curve          { return e.public.Curve() }

// ECDH is the x-coordinate of the shared point, which leaves the TPM by its nature, encrypted on the bus.
func (e *exchanger) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	secret, err := e.k.agree(context.Background(), remote)
	if err != nil {
		return nil, e.k.t.fail(err, "agree with %s", e.k.name())
	}
	return secret, nil
}

func (k *Key) agree(ctx context.Context, remote *ecdh.PublicKey) ([]byte, error) {
	own, err := k.f.key.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return nil, err
	}
	if remote == nil || remote.Curve() != own.Curve() {
		return nil, advice.New(advice.Usage, "use a key of the same curve", "the other key is not on the curve of %s", k.name())
	}
	raw := remote.Bytes()[1:]
	size := len(raw) / 2
	point := tpm2.New2B(tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: raw[:size]}, Y: tpm2.TPM2BECCParameter{Buffer: raw[size:]}})
	x, err := use(ctx, k, func(w *wire, root, key object) ([]byte, error) {
		answer, err := tpm2.ECDHZGen{KeyHandle: key.with(k.t.authority(root, k.t.s.PCRs, both)), InPoint: point}.Execute(w)
		if err != nil {
			return nil, err
		}
		shared, err := answer.OutPoint.Contents()
		if err != nil {
			return nil, err
		}
		return shared.X.Buffer, nil
	})
	if err != nil {
		return nil, err
	}
	return hsm.LeftPad(x, size)
}

// proveAgreement has the key agree once, as hsm.ProveAgreement says.
func (k *Key) proveAgreement(ctx context.Context) error {
	return hsm.ProveAgreement(k.f.key.(*ecdsa.PublicKey), func(remote *ecdh.PublicKey) ([]byte, error) { return k.agree(ctx, remote) })
}

// decrypter is an RSA key for OAEP decryption.
type decrypter struct{ k *Key }

var _ crypto.Decrypter = decrypter{}

// Decrypter is the key as a crypto.Decrypter for RSA-OAEP with SHA-256 and an empty label. Only keys of hsm.Decryption have it.
func (k *Key) Decrypter() (crypto.Decrypter, error) {
	if _, ok := k.f.key.(*rsa.PublicKey); !ok || !k.f.attributes().Decrypt {
		return nil, advice.New(advice.Usage, "generate an RSA key for decryption", "%s: %s is not for decryption", k.t.Info().Name(), k.name())
	}
	return decrypter{k}, nil
}

func (d decrypter) Public() crypto.PublicKey { return d.k.f.key }

// Decrypt takes *rsa.OAEPOptions with SHA-256 (or SHA-1), the same MGF hash and no label: a TPM ends a label with a NUL byte, which
// others do not.
func (d decrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	o, ok := opts.(*rsa.OAEPOptions)
	if !ok || o.MGFHash != 0 && o.MGFHash != o.Hash || len(o.Label) > 0 || oaepHashes[o.Hash] == 0 {
		return nil, advice.New(advice.Usage, "pass *rsa.OAEPOptions with SHA-256 and no label", "%s: decrypt with %s: only RSA-OAEP with one hash and without a label is offered", d.k.t.Info().Name(), d.k.name())
	}
	plain, err := d.k.decrypt(context.Background(), ciphertext, o.Hash)
	if err != nil {
		return nil, d.k.t.fail(err, "decrypt with %s", d.k.name())
	}
	return plain, nil
}

var oaepHashes = map[crypto.Hash]tpm2.TPMIAlgHash{crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA1: tpm2.TPMAlgSHA1}

func (k *Key) decrypt(ctx context.Context, ciphertext []byte, h crypto.Hash) ([]byte, error) {
	if len(ciphertext) != k.f.key.(*rsa.PublicKey).Size() {
		return nil, advice.New(advice.Usage, "is it encrypted to this key?", "ciphertext of %d bytes does not fit", len(ciphertext))
	}
	scheme := tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgOAEP, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: oaepHashes[h]})}
	plain, err := use(ctx, k, func(w *wire, root, key object) ([]byte, error) {
		answer, err := tpm2.RSADecrypt{KeyHandle: key.with(k.t.authority(root, k.t.s.PCRs, both)), CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: ciphertext}, InScheme: scheme}.Execute(w)
		if err != nil {
			return nil, err
		}
		return answer.Message.Buffer, nil
	})
	if errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCSize) || errors.Is(err, tpm2.TPMRCFailure) { // the last is libtpms' word for it
		return nil, advice.New(advice.Failed, "is it encrypted to this key, and unchanged?", "the ciphertext is not valid: %w", err)
	}
	return plain, err
}

// OAEPHash is the hash of the TPM's OAEP, found out by encrypting here and decrypting there.
func (k *Key) OAEPHash(ctx context.Context) (crypto.Hash, error) {
	if err := k.proveDecryption(ctx); err != nil {
		return 0, k.t.fail(err, "test decryption with %s", k.name())
	}
	return crypto.SHA256, nil
}

func (k *Key) proveDecryption(ctx context.Context) error {
	pub, ok := k.f.key.(*rsa.PublicKey)
	if !ok {
		return advice.New(advice.Usage, "generate an RSA key for decryption", "it is not for decryption")
	}
	message := make([]byte, 32)
	rand.Read(message)
	sealed, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, pub, message, nil)
	if err != nil {
		return err
	}
	got, err := k.decrypt(ctx, sealed, crypto.SHA256)
	if err != nil {
		return fmt.Errorf("test decryption: %w", err)
	}
	if !bytes.Equal(got, message) {
		return advice.New(advice.Failed, "do not use this TPM until its vendor has explained it", "the TPM decrypts to another message")
	}
	return nil
}
