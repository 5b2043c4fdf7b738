package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"

	"github.com/hanaper/hanaper/csr"
)

// probeText is what a probe signs: words that begin no certificate, list or request, for those begin with the byte 0x30.
const probeText = "hanaper: this signature shows that the token signs, and says nothing else"

// Probe has the issuing key sign a text that means nothing, and verifies the signature.
func (i *Issuer) Probe(ctx context.Context) error {
	alg := signatureFor(i.cert.PublicKey, x509.UnknownSignatureAlgorithm)
	sig, err := csr.SignMessage(ctx, rand.Reader, i.key, alg, []byte(probeText))
	if err != nil {
		return err
	}
	if err := csr.CheckSignature(i.cert.PublicKey, alg, []byte(probeText), sig); err != nil {
		return fmt.Errorf("ca: the token's signature does not verify: %w", err)
	}
	return nil
}
