package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // OAEP where the token has no other hash
	"errors"
	"fmt"
	"io"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// errBadCiphertext stands for CKR_GENERAL_ERROR in an answer to C_Decrypt.
var errBadCiphertext = errors.New("CKR_GENERAL_ERROR")

// decrypter is an RSA key for OAEP decryption.
type decrypter struct{ k *Key }

var _ crypto.Decrypter = decrypter{}

// Decrypter is the key as a crypto.Decrypter for RSA-OAEP. Only keys of hsm.Decryption (CKA_DECRYPT) have it.
func (k *Key) Decrypter() (crypto.Decrypter, error) {
	if _, ok := k.public.(*rsa.PublicKey); !ok || !k.attributes.Decrypt {
		return nil, advice.New(advice.Usage, "generate an RSA key for decryption", "%s: %s is not for decryption", k.t.Info().Name(), k.name())
	}
	if !k.t.can(p11.CKM_RSA_PKCS_OAEP, p11.CKF_DECRYPT) && !k.t.can(p11.CKM_RSA_X_509, p11.CKF_DECRYPT) {
		return nil, k.t.lacks("it does neither CKM_RSA_PKCS_OAEP nor CKM_RSA_X_509", "decrypt")
	}
	return decrypter{k}, nil
}

func (d decrypter) Public() crypto.PublicKey { return d.k.public }

// Decrypt takes *rsa.OAEPOptions with SHA-256 or SHA-1, and the same MGF hash. A token that has only SHA-1 (SoftHSM)
// answers hsm.ErrUnsupported to SHA-256; OAEPHash finds that out beforehand.
func (d decrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	o, ok := opts.(*rsa.OAEPOptions)
	if !ok || o.MGFHash != 0 && o.MGFHash != o.Hash {
		return nil, advice.New(advice.Usage, "pass *rsa.OAEPOptions with one hash", "%s: decrypt with %s: only RSA-OAEP is offered", d.k.t.Info().Name(), d.k.name())
	}
	out, err := d.k.decryptOAEP(d.k.t.within, ciphertext, o.Hash, o.Label)
	if err != nil {
		return nil, d.k.t.fail(err, "decrypt with %s", d.k.name())
	}
	return out, nil
}

var oaepHashes = map[crypto.Hash]struct{ hash, mgf uint }{
	crypto.SHA256: {p11.CKM_SHA256, p11.CKG_MGF1_SHA256},
	crypto.SHA1:   {p11.CKM_SHA_1, p11.CKG_MGF1_SHA1},
}

// decryptOAEP decrypts with one hash for both the label and the mask, as everybody does.
func (k *Key) decryptOAEP(ctx context.Context, ciphertext []byte, h crypto.Hash, label []byte) ([]byte, error) {
	numbers, ok := oaepHashes[h]
	if !ok {
		return nil, advice.New(advice.Usage, "use SHA-256, or SHA-1 where the token has no other", "OAEP with hash %d is not offered", h)
	}
	if len(ciphertext) != k.public.(*rsa.PublicKey).Size() {
		return nil, advice.New(advice.Usage, "is it encrypted to this key?", "ciphertext of %d bytes does not fit %s", len(ciphertext), k.name())
	}
	params := p11.NewOAEPParams(numbers.hash, numbers.mgf, p11.CKZ_DATA_SPECIFIED, label)
	mechanism, bare := p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, params), false
	if !k.t.can(p11.CKM_RSA_PKCS_OAEP, p11.CKF_DECRYPT) && k.t.can(p11.CKM_RSA_X_509, p11.CKF_DECRYPT) {
		mechanism, bare = p11.NewMechanism(p11.CKM_RSA_X_509, nil), true // older OpenSC
	}
	pin, err := k.ownPIN(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	var plain []byte
	err = k.use(ctx, func(s session, o p11.ObjectHandle) error {
		c := k.t.m.ctx
		if err := c.DecryptInit(s.h, []*p11.Mechanism{mechanism}, o); err != nil {
			if refusesMechanism(err) {
				return fmt.Errorf("%w: OAEP with %s: %w", hsm.ErrUnsupported, h, err)
			}
			return err
		}
		if err := k.authenticate(s, pin); err != nil {
			return err
		}
		plain, err = c.Decrypt(s.h, ciphertext)
		if code(err) == p11.CKR_GENERAL_ERROR {
			// SoftHSM's word for a ciphertext that is not valid: no reason to think that the token is ill.
			err = errBadCiphertext
		}
		return err
	})
	if errors.Is(err, errBadCiphertext) || code(err) == p11.CKR_ENCRYPTED_DATA_INVALID || code(err) == p11.CKR_ENCRYPTED_DATA_LEN_RANGE {
		return nil, advice.New(advice.Failed, "is it encrypted to this key, and unchanged?", "%s: decrypt with %s: the ciphertext is not valid: %w", k.t.Info().Name(), k.name(), err)
	}
	if err == nil && bare {
		defer clear(plain)
		return unpadOAEP(plain, k.public.(*rsa.PublicKey).Size(), h, label)
	}
	return plain, err
}

// OAEPHash finds out, by encrypting here and decrypting in the token, which hash its OAEP has: SHA-256, or only SHA-1. Labels
// other than the empty one are not asked for: SoftHSM takes none.
func (k *Key) OAEPHash(ctx context.Context) (crypto.Hash, error) {
	pub, ok := k.public.(*rsa.PublicKey)
	if !ok || !k.attributes.Decrypt {
		return 0, advice.New(advice.Usage, "generate an RSA key for decryption", "%s: %s is not for decryption", k.t.Info().Name(), k.name())
	}
	message := make([]byte, 32)
	rand.Read(message)
	var failures []error
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		sealed, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, message, nil)
		if err != nil {
			return 0, err
		}
		got, err := k.decryptOAEP(ctx, sealed, h, nil)
		if err == nil && bytes.Equal(got, message) {
			return h, nil
		}
		if err == nil {
			err = fmt.Errorf("OAEP with %s gives another message", h)
		}
		failures = append(failures, err)
		if lost(err) && !errors.Is(err, hsm.ErrUnsupported) {
			break
		}
	}
	return 0, k.t.fail(errors.Join(failures...), "test decryption with %s", k.name())
}

// proveDecryption shows that the private key belongs to the public one: it decrypts what was encrypted here.
func (k *Key) proveDecryption(ctx context.Context) error {
	_, err := k.OAEPHash(ctx)
	return err
}
