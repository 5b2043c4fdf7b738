package cardtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// The algorithm identifiers of SP 800-78-4, table 6-2.
const (
	tripleDES = 0x03
	rsa2048   = 0x07
	eccP256   = 0x11
	eccP384   = 0x14
)

func makeKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "RSA-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return nil, fmt.Errorf("cardtest: no algorithm %q", algorithm)
}

func algorithmName(id byte) string {
	return map[byte]string{rsa2048: "RSA-2048", eccP256: "P-256", eccP384: "P-384"}[id]
}

func selfSigned(key crypto.Signer, name string) ([]byte, error) {
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0)}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// publicTemplate is the answer to GENERATE ASYMMETRIC KEY PAIR (SP 800-73-4, part 2, table 11).
func publicTemplate(key crypto.Signer) []byte {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return tlv(0x7f49, tlv(0x81, pub.N.Bytes()), tlv(0x82, big.NewInt(int64(pub.E)).Bytes()))
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err == nil {
			return tlv(0x7f49, tlv(0x86, point))
		}
	}
	return nil
}

// sign does what GENERAL AUTHENTICATE does with a challenge: an ECDSA signature over a digest, or the bare RSA operation, which pads nothing.
func sign(key crypto.PrivateKey, algorithm byte, challenge []byte) ([]byte, status) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if algorithm != rsa2048 || len(challenge) != k.Size() {
			return nil, wrongData
		}
		m := new(big.Int).SetBytes(challenge)
		if m.Cmp(k.N) >= 0 {
			return nil, wrongData
		}
		return m.Exp(m, k.D, k.N).FillBytes(make([]byte, k.Size())), ok
	case *ecdsa.PrivateKey:
		if size := (k.Params().BitSize + 7) / 8; algorithm != ecAlgorithm(k) || len(challenge) > size {
			return nil, wrongData
		}
		sig, err := ecdsa.SignASN1(rand.Reader, k, challenge)
		if err != nil {
			return nil, wrongData
		}
		return sig, ok
	}
	return nil, noReference
}

// agree does what GENERAL AUTHENTICATE does with another's public point: the x coordinate of the shared point.
func agree(key crypto.PrivateKey, algorithm byte, point []byte) ([]byte, status) {
	k, is := key.(*ecdsa.PrivateKey)
	if !is || algorithm != ecAlgorithm(k) {
		return nil, wrongData
	}
	own, err := k.ECDH()
	if err != nil {
		return nil, wrongData
	}
	other, err := own.Curve().NewPublicKey(point)
	if err != nil {
		return nil, wrongData
	}
	shared, err := own.ECDH(other)
	if err != nil {
		return nil, wrongData
	}
	return shared, ok
}

func ecAlgorithm(k *ecdsa.PrivateKey) byte {
	if k.Curve == elliptic.P256() {
		return eccP256
	}
	return eccP384
}
