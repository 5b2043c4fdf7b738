package reposerver

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// ErrNoKey: the key store does not hold the key.
var ErrNoKey = errors.New("no such key in the key store")

// KeyStore holds the server's keys. It is safe for concurrent use.
type KeyStore interface {
	// Generate makes a signing key that devices accept. A label that is taken is refused.
	Generate(ctx context.Context, label string) (crypto.Signer, error)
	// Labelled finds a key by its label; ErrNoKey if there is none.
	Labelled(ctx context.Context, label string) (crypto.Signer, error)
	// Find finds a key by its key id; ErrNoKey if there is none.
	Find(ctx context.Context, keyid string) (crypto.Signer, error)
	// Destroy removes a key for good and proves its absence; ErrNoKey if there is none.
	Destroy(ctx context.Context, keyid string) error
}

// Exporter is a KeyStore that gives private keys out, as the original server does. A token is none.
type Exporter interface {
	Export(ctx context.Context, keyid string) (crypto.PrivateKey, error)
}

// FolderKeys is a KeyStore of PKCS#8 files, for moving an installation of the original tools over, which fetch the old
// root key. Whoever reads the folder has the keys: use a token wherever the tools are our own.
type FolderKeys struct {
	dir       string
	algorithm string
}

// NewFolderKeys opens the folder, which it makes with mode 0700 if need be. algorithm is that of new keys: Ed25519,
// RSA-2048, RSA-3072 or RSA-4096.
func NewFolderKeys(dir, algorithm string) (*FolderKeys, error) {
	if _, _, err := keyKind(algorithm); err != nil {
		return nil, err
	}
	if err := durable.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, advice.New(advice.Refused, "run: chmod 700 "+dir, "key folder %s lets group or others in", show.Text(dir))
	}
	return &FolderKeys{dir, algorithm}, nil
}

func keyKind(algorithm string) (bits int, edwards bool, err error) {
	switch algorithm {
	case "Ed25519":
		return 0, true, nil
	case "RSA-2048":
		return 2048, false, nil
	case "RSA-3072":
		return 3072, false, nil
	case "RSA-4096":
		return 4096, false, nil
	}
	return 0, false, advice.New(advice.Usage, "use Ed25519, RSA-2048, RSA-3072 or RSA-4096: devices refuse the rest", "key algorithm %q", algorithm)
}

func (f *FolderKeys) path(label string) (string, error) {
	if label == "" || strings.ContainsAny(label, "/\x00") || label[0] == '.' {
		return "", fmt.Errorf("key label %q is no file name", label)
	}
	return filepath.Join(f.dir, label+".pk8"), nil
}

// Generate makes a key and stores it.
func (f *FolderKeys) Generate(ctx context.Context, label string) (crypto.Signer, error) {
	at, err := f.path(label)
	if err != nil {
		return nil, err
	}
	bits, edwards, err := keyKind(f.algorithm)
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	if edwards {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, bits)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return key, durable.Create(at, der, 0o600)
}

// Labelled finds a key by its label.
func (f *FolderKeys) Labelled(ctx context.Context, label string) (crypto.Signer, error) {
	at, err := f.path(label)
	if err != nil {
		return nil, err
	}
	return readKey(at)
}

func readKey(at string) (crypto.Signer, error) {
	der, err := input.ReadFile(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", show.Text(at), ErrNoKey)
	}
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s is no PKCS#8 key", show.Text(at))
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, which cannot sign", show.Text(at), key)
	}
	return signer, nil
}

func (f *FolderKeys) find(keyid string) (string, crypto.Signer, error) {
	list, err := filepath.Glob(filepath.Join(f.dir, "*.pk8"))
	if err != nil {
		return "", nil, err
	}
	for _, at := range list {
		key, err := readKey(at)
		if err != nil {
			return "", nil, err
		}
		if k, err := uptane.NewKey(key.Public()); err == nil && k.ID() == keyid {
			return at, key, nil
		}
	}
	return "", nil, fmt.Errorf("key %s: %w", keyid, ErrNoKey)
}

// Find finds a key by its key id.
func (f *FolderKeys) Find(ctx context.Context, keyid string) (crypto.Signer, error) {
	_, key, err := f.find(keyid)
	return key, err
}

// Destroy removes a key's file.
func (f *FolderKeys) Destroy(ctx context.Context, keyid string) error {
	at, _, err := f.find(keyid)
	if err != nil {
		return err
	}
	if err := durable.Remove(at); err != nil {
		return err
	}
	if _, _, err := f.find(keyid); !errors.Is(err, ErrNoKey) {
		return fmt.Errorf("key %s is still there", keyid)
	}
	return nil
}

// Export gives a private key out.
func (f *FolderKeys) Export(ctx context.Context, keyid string) (crypto.PrivateKey, error) {
	_, key, err := f.find(keyid)
	return key, err
}

type keyPairDocument struct {
	Type  uptane.KeyType `json:"keytype"`
	Value struct {
		Public  string `json:"public"`
		Private string `json:"private"`
	} `json:"keyval"`
}

// keyPairJSON writes a private key as the original server gives it out.
func keyPairJSON(key crypto.PrivateKey) ([]byte, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign", key)
	}
	pub, err := uptane.NewKey(signer.Public())
	if err != nil {
		return nil, err
	}
	doc := keyPairDocument{Type: pub.Type()}
	doc.Value.Public = pub.Value()
	switch k := key.(type) {
	case ed25519.PrivateKey:
		doc.Value.Private = hex.EncodeToString(k)
	case *rsa.PrivateKey:
		doc.Value.Private = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}))
	default:
		return nil, fmt.Errorf("a private key of type %T cannot be written", key)
	}
	return json.Marshal(doc)
}

// parseKeyPair reads {"keytype":...,"keyval":{"public":...,"private":...}}, as the server gives a key out and .sec files
// hold it: a PEM for RSA, and for Ed25519 the seed in hex, alone or with the public key after it.
func parseKeyPair(data []byte) (crypto.Signer, error) {
	var doc keyPairDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, errors.New("the private key is not JSON")
	}
	switch doc.Type {
	case uptane.Ed25519:
		raw, err := hex.DecodeString(strings.TrimSpace(doc.Value.Private))
		if err != nil || len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
			return nil, errors.New("the Ed25519 private key is not a seed in hex")
		}
		key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
		if len(raw) == ed25519.PrivateKeySize && !bytes.Equal(key[ed25519.SeedSize:], raw[ed25519.SeedSize:]) {
			return nil, errors.New("the Ed25519 private key does not belong to its public key")
		}
		return key, nil
	case uptane.RSA:
		block, _ := pem.Decode([]byte(doc.Value.Private))
		if block == nil {
			return nil, errors.New("the RSA private key is not a PEM")
		}
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the RSA private key does not parse")
		}
		signer, ok := key.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("the key type says RSA, the key is a %T", key)
		}
		return signer, nil
	}
	return nil, fmt.Errorf("private key of type %q is neither RSA nor ED25519", doc.Type)
}
