package station

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
)

// keyStore is where a device's key lives.
type keyStore interface {
	// key gives the device's key, made if there is none yet.
	key(ctx context.Context) (k crypto.Signer, made bool, err error)
	// find gives the device's key, and makes none.
	find(ctx context.Context) (crypto.Signer, error)
	// putCertificate stores the device's certificate beside the key; the same one again changes nothing.
	putCertificate(ctx context.Context, cert *x509.Certificate) error
	// uptaneKey has the device's Uptane key made where the configuration wants it in the token.
	uptaneKey(ctx context.Context) (made bool, err error)
	// verify reads back what the device will use, and signs with it.
	verify(ctx context.Context, cert *x509.Certificate) error
	close()
}

// openKeyStore opens what the configuration names.
func openKeyStore(ctx context.Context, c *Config, open func(context.Context, hsm.URI) (hsm.Token, error), done func(string, ...any)) (keyStore, error) {
	if c.Device.KeyStore == storeFile {
		return &fileStore{folder: c.Import, algorithm: hsm.Algorithm(c.Device.Algorithm)}, nil
	}
	t, err := open(ctx, c.token)
	if err != nil {
		return nil, err
	}
	return &tokenStore{token: t, c: c, done: done}, nil
}

// tokenStore is the device's own token: the key is born in it and never leaves.
type tokenStore struct {
	token hsm.Token
	c     *Config
	done  func(format string, args ...any)
}

func (s *tokenStore) close() { _ = s.token.Close() }

func (s *tokenStore) key(ctx context.Context) (crypto.Signer, bool, error) {
	return s.born(ctx, s.c.keyID, "device", "device.algorithm", hsm.Algorithm(s.c.Device.Algorithm))
}

func (s *tokenStore) find(ctx context.Context) (crypto.Signer, error) {
	return s.token.Key(ctx, hsm.Query{ID: s.c.keyID})
}

func (s *tokenStore) uptaneKey(ctx context.Context) (bool, error) {
	if s.c.uptaneID == nil {
		return false, nil
	}
	_, made, err := s.born(ctx, s.c.uptaneID, "uptane", "device.uptane_algorithm", hsm.Algorithm(s.c.Device.UptaneAlgorithm))
	return made, err
}

// born finds the key with this id, or has the token make it; one that could have been copied is refused.
func (s *tokenStore) born(ctx context.Context, id []byte, label, setting string, algorithm hsm.Algorithm) (hsm.Key, bool, error) {
	k, err := s.token.Key(ctx, hsm.Query{ID: id})
	made := errors.Is(err, hsm.ErrNoKey)
	if made {
		k, err = s.token.Generate(ctx, hsm.GenerateSpec{Label: label, ID: id, Algorithm: algorithm, Class: hsm.Sealed})
	}
	if err != nil {
		return nil, false, err
	}
	a := k.Attributes()
	if a.Algorithm != algorithm {
		return nil, false, advice.New(advice.Refused, "set "+setting+" to it, or give the device a fresh token", "the key with id %x in %s is %s, not %s",
			id, s.token.Info().Name(), show.Text(a.Algorithm), show.Text(algorithm))
	}
	if !a.Local || !a.NeverExtractable || !a.AlwaysSensitive {
		return nil, false, advice.New(advice.Refused, "give the device a fresh token", "the key with id %x in %s was not born sealed in it", id, s.token.Info().Name())
	}
	return k, made, nil
}

func (s *tokenStore) putCertificate(ctx context.Context, cert *x509.Certificate) error {
	have, err := s.token.Certificate(ctx, s.c.certID)
	if err == nil && have.Equal(cert) {
		return nil
	}
	if err == nil {
		if err := s.makeRoom(ctx, have, cert); err != nil {
			return err
		}
	}
	if err := s.token.PutCertificate(ctx, "device", s.c.certID, cert); err != nil {
		return err
	}
	back, err := s.token.Certificate(ctx, s.c.certID)
	if err == nil && !back.Equal(cert) {
		err = fmt.Errorf("the certificate read back from %s is another one", s.token.Info().Name())
	}
	return err
}

// makeRoom removes the certificate that the token has for the very key of cert: hanaperd gave that key another one, as after a swap. That of
// another key stays, and is in the way.
func (s *tokenStore) makeRoom(ctx context.Context, have, cert *x509.Certificate) error {
	t, can := s.token.(interface {
		RemoveCertificate(ctx context.Context, id []byte, cert *x509.Certificate) error
	})
	if !can || !bytes.Equal(have.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) || older(cert, have) {
		return nil
	}
	s.done("%s: the token's certificate of %s, serial %s, makes way for the new one", show.Text(s.c.Device.ID), show.Text(have.Subject.CommonName), show.Text(serialOf(have)))
	return t.RemoveCertificate(ctx, s.c.certID, have)
}

// older says that a certificate was issued before another: an answer of long ago, as on a stick that was kept, takes no newer one's place.
func older(cert, than *x509.Certificate) bool { return cert.NotBefore.Before(than.NotBefore) }

// fileStore is a key in a file, for devices without a token. Until the import folder is laid out the key waits beside
// it, so that a run that fails half-way finds it again.
type fileStore struct {
	folder    string
	algorithm hsm.Algorithm
}

func (s *fileStore) waiting() string { return filepath.Clean(s.folder) + ".pkey.pem" }

func (s *fileStore) find(context.Context) (crypto.Signer, error) {
	for _, path := range []string{filepath.Join(s.folder, "pkey.pem"), s.waiting()} {
		if _, err := os.Stat(path); err == nil {
			k, _, err := factory.FileKey(path)
			return k, err
		}
	}
	return nil, fmt.Errorf("a key for import folder %s: %w", show.Text(s.folder), hsm.ErrNoKey)
}

func (s *fileStore) key(ctx context.Context) (crypto.Signer, bool, error) {
	if k, err := s.find(ctx); !errors.Is(err, hsm.ErrNoKey) {
		return k, false, err
	}
	k, err := softKey(s.algorithm)
	if err != nil {
		return nil, false, err
	}
	if err := durable.Mkdir(filepath.Dir(s.waiting()), 0o755); err != nil {
		return nil, false, err
	}
	return k, true, factory.WriteKey(s.waiting(), k)
}

// close removes the waiting key once the folder holds it.
func (s *fileStore) close() {
	if _, err := os.Stat(filepath.Join(s.folder, "pkey.pem")); err == nil {
		_ = durable.Remove(s.waiting())
	}
}

func (s *fileStore) putCertificate(context.Context, *x509.Certificate) error { return nil }

func (s *fileStore) uptaneKey(context.Context) (bool, error) { return false, nil }

func softKey(a hsm.Algorithm) (crypto.Signer, error) {
	switch a {
	case hsm.RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case hsm.RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case hsm.RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}
