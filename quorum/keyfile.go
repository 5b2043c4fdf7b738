package quorum

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"go.step.sm/crypto/pemutil"

	"github.com/hanaper/hanaper/internal/advice"
)

// MinPassphrase is the shortest passphrase of a key file, in bytes.
const MinPassphrase = 8

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 64 << 10

const encryptedKey = "ENCRYPTED PRIVATE KEY"

// GenerateKey makes a key pair for a key file: "Ed25519", "P-256", "P-384", "RSA-3072" or "RSA-4096".
func GenerateKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "Ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "RSA-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, advice.New(advice.Usage, "use Ed25519, P-256, P-384, RSA-3072 or RSA-4096", "key algorithm %q is not known", algorithm)
}

// SealKey encrypts a private key under a passphrase: PKCS#8 with PBES2 (RFC 8018), in PEM, as openssl pkcs8 reads it.
func SealKey(key crypto.Signer, passphrase []byte) ([]byte, error) {
	if len(passphrase) < MinPassphrase {
		return nil, advice.New(advice.Usage, "", "passphrase has %d bytes; at least %d are needed", len(passphrase), MinPassphrase)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("quorum: key file: %w", err)
	}
	defer clear(der)
	block, err := pemutil.EncryptPKCS8PrivateKey(rand.Reader, der, passphrase, x509.PEMCipherAES256)
	if err != nil {
		return nil, fmt.Errorf("quorum: key file: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// OpenKey reads a key file. One that is not encrypted is refused: a copy of it would be the officer.
func OpenKey(data, passphrase []byte) (crypto.Signer, error) {
	if len(data) > maxKeyFile {
		return nil, usage("key file: larger than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(data)
	if block == nil || len(rest) > 0 {
		return nil, usage("key file: not a single PEM block")
	}
	if block.Type != encryptedKey || len(block.Headers) > 0 {
		return nil, advice.New(advice.Usage, "encrypt it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out NEW",
			"key file: PEM block %.40q, want %q", block.Type, encryptedKey)
	}
	der, err := pemutil.DecryptPKCS8PrivateKey(block.Bytes, passphrase)
	if err != nil {
		return nil, advice.New(advice.Failed, "check the passphrase", "key file: cannot be decrypted")
	}
	defer clear(der)
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, advice.New(advice.Failed, "check the passphrase", "key file: cannot be decrypted")
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, usage("key file: %T cannot sign", key)
	}
	return s, nil
}
