package station

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
)

// checkAnswer holds what hanaperd sent to all that the device will rely on.
func checkAnswer(a *factory.EnrollAnswer, c *Config, pub crypto.PublicKey, roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	bad := func(format string, args ...any) error {
		return advice.New(advice.Unverified, "nothing was written to the device; see hanaperd's configuration", "the answer of hanaperd: "+format, args...)
	}
	chain, err := factory.ParseCertificates([]byte(a.Chain))
	if err != nil {
		return nil, bad("chain: %w", err)
	}
	leaf, err := factory.ParseCertificates([]byte(a.Certificate))
	if err != nil || len(leaf) != 1 || !bytes.Equal(leaf[0].Raw, chain[0].Raw) {
		return nil, bad("the chain does not begin with the certificate")
	}
	if cn := chain[0].Subject.CommonName; cn != c.Device.ID || a.DeviceID != c.Device.ID {
		return nil, bad("the certificate is for %.80q, not %q", cn, c.Device.ID)
	}
	if err := ca.CheckKeyMatches(chain[0], pub); err != nil {
		return nil, bad("%w", err)
	}
	if err := ca.Verify(chain, roots, now); err != nil {
		return nil, bad("%w", err)
	}
	return chain, nil
}

// proofSize is how many random bytes a key signs when it is read back.
const proofSize = 32

// proveKey has a key sign, and verifies that with the public key that the device's peers will see.
func proveKey(ctx context.Context, key crypto.Signer, pub crypto.PublicKey, opts crypto.SignerOpts) error {
	proof := make([]byte, proofSize)
	if _, err := rand.Read(proof); err != nil {
		return err
	}
	digest := signature.Digest(proof, opts)
	sig, err := signature.Ask(ctx, rand.Reader, key, digest, opts)
	if err != nil {
		return err
	}
	if !signature.Verify(pub, digest, opts, sig) {
		return signature.ErrWrong
	}
	return nil
}

// verify looks everything up anew, by the ids that stand in sota.toml: what the station remembers of it counts for nothing.
func (s *tokenStore) verify(ctx context.Context, cert *x509.Certificate) error {
	bad := func(what string, err error) error {
		return advice.Wrap(advice.Unverified, advice.New(advice.Unverified, "", "%s, read back from %s: %w", what, s.token.Info().Name(), err),
			"set the board aside: its token does not hold what was put there")
	}
	if s.c.Device.KeyStore == storePKCS11 {
		back, err := s.token.Certificate(ctx, s.c.certID)
		if err == nil && !back.Equal(cert) {
			err = advice.New(advice.Unverified, "", "it is another one")
		}
		if err != nil {
			return bad("the certificate", err)
		}
	}
	key, err := s.token.Key(ctx, hsm.Query{ID: s.c.keyID})
	if err == nil {
		if err = ca.CheckKeyMatches(cert, key.Public()); err == nil {
			err = proveKey(ctx, key, cert.PublicKey, signature.Scheme(cert.PublicKey))
		}
	}
	if err != nil {
		return bad("the key of the certificate", err)
	}
	if s.c.uptaneID == nil {
		return nil
	}
	uptane, err := s.token.Key(ctx, hsm.Query{ID: s.c.uptaneID})
	if err == nil {
		err = proveKey(ctx, uptane, uptane.Public(), signature.PSS256)
	}
	if err != nil {
		return bad("the Uptane key", err)
	}
	return nil
}

// verify reads the key in the laid folder.
func (s *fileStore) verify(_ context.Context, cert *x509.Certificate) error {
	path := filepath.Join(s.folder, "pkey.pem")
	key, _, err := factory.FileKey(path)
	if err == nil {
		err = ca.CheckKeyMatches(cert, key.Public())
	}
	if err != nil {
		return advice.Wrap(advice.Unverified, advice.New(advice.Unverified, "", "%s, read back: %w", show.Text(path), err), "look at the disk; set the board aside")
	}
	return nil
}

// Tokens lists what a PKCS#11 library shows, in its order.
type Tokens func(library string) ([]hsm.TokenInfo, error)

// firstToken holds the device's token against the one that the client in the field takes: the first that its module shows, unless a
// later one is initialised, has its PIN set and wants a login where the first has none of the three. What the station's module shows
// is what the device's will only where both are the same library with the same tokens.
func (s *Station) firstToken(t hsm.TokenInfo) error {
	if s.c.Device.KeyStore != storePKCS11 {
		return nil
	}
	if err := checkSerial(t); err != nil {
		return err
	}
	if s.tokens == nil {
		return nil
	}
	all, err := s.tokens(s.c.token.Library())
	if err != nil {
		return err
	}
	first := clientToken(all)
	if first == nil || first.Serial == t.Serial && first.Label == t.Label {
		return nil
	}
	if s.c.Sota.FirstToken == firstDemanded {
		return advice.New(advice.Refused, "take the other token away, or put it after the device's", "the device would take %s, which its module shows before %s", first.Name(), t.Name())
	}
	s.done("%s: take care: the client takes the first token that its module shows. Here that is %s; on the device it must be %s", show.Text(s.c.Device.ID), first.Name(), t.Name())
	return nil
}

func clientToken(all []hsm.TokenInfo) *hsm.TokenInfo {
	var best *hsm.TokenInfo
	for i, t := range all {
		if best == nil || t.Initialized && !best.Initialized && t.PINSet && !best.PINSet && t.LoginRequired && !best.LoginRequired {
			best = &all[i]
		}
	}
	return best
}
