package repo

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// Public reads NAME.pub.
func (k *Keys) Public(name string) (uptane.Key, error) {
	p, err := k.path(name, ".pub")
	if err != nil {
		return uptane.Key{}, err
	}
	return ReadPublic(p)
}

// ReadPublic reads a .pub file anywhere.
func ReadPublic(path string) (uptane.Key, error) {
	b, err := readFile(path, maxKeyFile)
	if err != nil {
		return uptane.Key{}, err
	}
	key, err := uptane.ParseKey(b)
	if err != nil {
		return uptane.Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// URI is the URI in NAME.sec, empty for a key in a file.
func (k *Keys) URI(name string) (string, error) {
	f, _, err := k.secret(name)
	if err != nil {
		return "", err
	}
	return f.KeyVal.URI, nil
}

func (k *Keys) secret(name string) (f keyFile, path string, err error) {
	if path, err = k.path(name, ".sec"); err != nil {
		return f, path, err
	}
	f, err = readSecret(path)
	return f, path, err
}

func readSecret(path string) (f keyFile, err error) {
	b, err := readFile(path, maxKeyFile)
	if err != nil {
		return f, err
	}
	defer clear(b)
	return parseSecret(path, b)
}

// parseSecret reads a .sec file. Its errors never repeat the content.
func parseSecret(path string, b []byte) (f keyFile, err error) {
	bad := func(what string) (keyFile, error) {
		return keyFile{}, advice.New(advice.Usage, "", "%s: %s", path, what)
	}
	if len(b) > maxKeyFile || json.Unmarshal(b, &f) != nil {
		return bad("not the JSON of a private key")
	}
	if (f.KeyVal.Private == "") == (f.KeyVal.URI == "") {
		return bad("it must hold either a private key or the URI of one")
	}
	f.KeyType = strings.ToUpper(f.KeyType)
	if f.KeyVal.URI != "" {
		if err := checkURI(f.KeyVal.URI); err != nil {
			return keyFile{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	return f, nil
}

// Signer opens a private key by its name or by its URI, and checks that it is the one that NAME.pub shows.
func (k *Keys) Signer(ctx context.Context, name string) (crypto.Signer, io.Closer, error) {
	if IsURI(name) {
		if err := checkURI(name); err != nil {
			return nil, nil, err
		}
		return k.openURI(ctx, name)
	}
	f, path, err := k.secret(name)
	if err != nil {
		return nil, nil, err
	}
	signer, closer, err := k.openSecret(ctx, path, f)
	if err != nil {
		return nil, nil, err
	}
	if pub, err := k.Public(name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = sameKey(pub, signer)
		}
		if err != nil {
			closer.Close()
			return nil, nil, fmt.Errorf("key %s: %w", name, err)
		}
	}
	return signer, closer, nil
}

// OpenSecret opens the private key of a .sec file anywhere.
func (k *Keys) OpenSecret(ctx context.Context, path string) (crypto.Signer, io.Closer, error) {
	f, err := readSecret(path)
	if err != nil {
		return nil, nil, err
	}
	return k.openSecret(ctx, path, f)
}

func sameKey(pub uptane.Key, signer crypto.Signer) error {
	have, err := uptane.NewKey(signer.Public())
	if err != nil {
		return err
	}
	if have.ID() != pub.ID() {
		return advice.New(advice.Unverified, "the key in the token or the .sec file was exchanged", "its private key belongs to %s, its .pub file shows %s", have.ID(), pub.ID())
	}
	return nil
}

type closeNothing struct{}

func (closeNothing) Close() error { return nil }

func (k *Keys) openSecret(ctx context.Context, path string, f keyFile) (crypto.Signer, io.Closer, error) {
	if f.KeyVal.URI != "" {
		return k.openURI(ctx, f.KeyVal.URI)
	}
	signer, err := parsePrivate(uptane.KeyType(f.KeyType), f.KeyVal.Private)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, closeNothing{}, nil
}

func (k *Keys) openURI(ctx context.Context, uri string) (crypto.Signer, io.Closer, error) {
	if k.open == nil {
		return nil, nil, advice.New(advice.Failed, "use a build with token support", "this program cannot open keys in tokens")
	}
	signer, closer, err := k.open(ctx, uri)
	if err != nil {
		return nil, nil, err
	}
	if closer == nil {
		closer = closeNothing{}
	}
	return signer, closer, nil
}

// parsePrivate reads keyval.private: PKCS#1 PEM (or PKCS#8), or the hex seed with or without the public half.
func parsePrivate(typ uptane.KeyType, s string) (crypto.Signer, error) {
	bad := func(what string) (crypto.Signer, error) { return nil, advice.New(advice.Usage, "", "%s", what) }
	switch typ {
	case uptane.RSA:
		block, rest := pem.Decode([]byte(s))
		if block == nil || len(strings.TrimSpace(string(rest))) != 0 {
			return bad("an RSA private key must be one PEM block")
		}
		if block.Type == "RSA PRIVATE KEY" {
			if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
				return key, nil
			}
		} else if block.Type == "PRIVATE KEY" {
			if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
				if r, ok := key.(*rsa.PrivateKey); ok {
					return r, nil
				}
			}
		}
		return bad("the RSA private key does not parse")
	case uptane.Ed25519:
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != 32 && len(b) != 64 {
			return bad("an Ed25519 private key must be 64 or 128 hex digits")
		}
		key := ed25519.NewKeyFromSeed(b[:32])
		if len(b) == 64 && !slices.Equal(b, key) {
			return bad("the public half of the Ed25519 private key is not that of its seed")
		}
		return key, nil
	}
	return nil, advice.New(advice.Usage, "use ED25519 or RSA", "key type %q cannot sign Uptane metadata", typ)
}
