package quorum

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // OAEP with SHA-1, for tokens that have no other; named in the envelope
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
)

// ErrDecrypt means a share that could not be decrypted: another key, or changed bytes.
var ErrDecrypt = errors.New("quorum: share cannot be decrypted")

// sealed is one encrypted share: what the key made (an HPKE encapsulated key, or an OAEP ciphertext) and the AEAD's output.
type sealed struct {
	encapsulated []byte
	ciphertext   []byte
}

const contentKeySize = 32

func curveOf(d Decryption) ecdh.Curve {
	switch d {
	case HPKEP256:
		return ecdh.P256()
	case HPKEP384:
		return ecdh.P384()
	}
	return nil
}

func oaepHash(d Decryption) (crypto.Hash, func() hash.Hash) {
	if d == OAEPSHA1 {
		return crypto.SHA1, sha1.New
	}
	return crypto.SHA256, sha256.New
}

// seal encrypts plaintext to an officer's key, bound to info. The scheme was checked against the key before.
func seal(d Decryption, pub crypto.PublicKey, info, plaintext []byte) (sealed, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		point, err := k.ECDH()
		if err != nil {
			return sealed{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		to, err := hpke.NewDHKEMPublicKey(point)
		if err != nil {
			return sealed{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
		if err != nil {
			return sealed{}, fmt.Errorf("quorum: sealing a share: %w", err)
		}
		ct, err := sender.Seal(nil, plaintext)
		if err != nil {
			return sealed{}, fmt.Errorf("quorum: sealing a share: %w", err)
		}
		return sealed{enc, ct}, nil
	case *rsa.PublicKey:
		key := make([]byte, contentKeySize)
		defer clear(key)
		if _, err := rand.Read(key); err != nil {
			return sealed{}, err
		}
		_, h := oaepHash(d)
		enc, err := rsa.EncryptOAEP(h(), rand.Reader, k, key, nil)
		if err != nil {
			return sealed{}, fmt.Errorf("quorum: sealing a share: %w", err)
		}
		aead, err := contentCipher(key)
		if err != nil {
			return sealed{}, err
		}
		return sealed{enc, aead.Seal(nil, nil, plaintext, info)}, nil
	}
	return sealed{}, fmt.Errorf("%w: %T cannot decrypt", ErrKey, pub)
}

// contentCipher is AES-256-GCM with a random nonce before the ciphertext.
func contentCipher(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// A Decrypter opens shares. It is a private key, in a file or a token, of one of these kinds:
//
//   - an ecdh.KeyExchanger on P-256 or P-384, such as a token's ECDH key or *ecdh.PrivateKey
//   - *ecdsa.PrivateKey on P-256 or P-384
//   - a crypto.Decrypter with an RSA key, which is given *rsa.OAEPOptions
//   - a key of a token that offers one of the two: KeyExchanger() (ecdh.KeyExchanger, error), or
//     Decrypter() (crypto.Decrypter, error)
type Decrypter any

// resolve asks a token's key for what the scheme needs.
func resolve(d Decryption, key Decrypter) (Decrypter, error) {
	if curveOf(d) != nil {
		if k, ok := key.(interface {
			KeyExchanger() (ecdh.KeyExchanger, error)
		}); ok {
			return k.KeyExchanger()
		}
	} else if k, ok := key.(interface {
		Decrypter() (crypto.Decrypter, error)
	}); ok {
		return k.Decrypter()
	}
	return key, nil
}

// publicOf is the public key of a Decrypter, in the form that rosters use.
func publicOf(key Decrypter) (crypto.PublicKey, error) {
	if k, ok := key.(interface{ Public() crypto.PublicKey }); ok {
		switch p := k.Public().(type) {
		case *ecdh.PublicKey:
			return fromECDH(p)
		default:
			return p, nil
		}
	}
	if k, ok := key.(ecdh.KeyExchanger); ok {
		return fromECDH(k.PublicKey())
	}
	return nil, fmt.Errorf("%w: %T cannot decrypt", ErrKey, key)
}

func fromECDH(p *ecdh.PublicKey) (crypto.PublicKey, error) {
	switch p.Curve() {
	case ecdh.P256():
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), p.Bytes())
	case ecdh.P384():
		return ecdsa.ParseUncompressedPublicKey(elliptic.P384(), p.Bytes())
	}
	return nil, fmt.Errorf("%w: curve %v: use P-256 or P-384", ErrKey, p.Curve())
}

// unseal decrypts with a key whose public half was found to be the one that s was sealed to.
func unseal(d Decryption, key Decrypter, info []byte, s sealed) ([]byte, error) {
	key, err := resolve(d, key)
	if err != nil {
		return nil, err
	}
	if curve := curveOf(d); curve != nil {
		if k, ok := key.(*ecdsa.PrivateKey); ok {
			x, err := k.ECDH()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrKey, err)
			}
			key = x
		}
		x, ok := key.(ecdh.KeyExchanger)
		if !ok {
			return nil, fmt.Errorf("%w: %T cannot agree on a key (ECDH)", ErrKey, key)
		}
		from, err := hpke.NewDHKEMPrivateKey(x)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		recipient, err := hpke.NewRecipient(s.encapsulated, from, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
		}
		plaintext, err := recipient.Open(nil, s.ciphertext)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
		}
		return plaintext, nil
	}
	k, ok := key.(crypto.Decrypter)
	if !ok {
		return nil, fmt.Errorf("%w: %T cannot decrypt (RSA-OAEP)", ErrKey, key)
	}
	h, _ := oaepHash(d)
	content, err := k.Decrypt(rand.Reader, s.encapsulated, &rsa.OAEPOptions{Hash: h})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	defer clear(content)
	if len(content) != contentKeySize {
		return nil, fmt.Errorf("%w: content key of %d bytes", ErrDecrypt, len(content))
	}
	aead, err := contentCipher(content)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, s.ciphertext, info)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	return plaintext, nil
}
