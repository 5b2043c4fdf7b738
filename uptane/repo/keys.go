package repo

import (
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
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/uptane"
)

// Opener opens a private key that a URI names, in whatever token. The signer is good until the closer is closed.
type Opener func(ctx context.Context, uri string) (crypto.Signer, io.Closer, error)

// maxKeyFile bounds a .pub, .sec or PEM file in bytes.
const maxKeyFile = 64 << 10

// Keys is a folder of NAME.pub and NAME.sec files in garage-sign's format. A .sec file holds
// {"keytype":...,"keyval":{"private":...}}, or, for a key in a token, {"keytype":...,"keyval":{"uri":...}}.
type Keys struct {
	dir  string
	open Opener
}

// NewKeys is the folder at dir, which need not exist yet. open may be nil where no key is in a token.
func NewKeys(dir string, open Opener) *Keys { return &Keys{dir, open} }

// Dir is the folder.
func (k *Keys) Dir() string { return k.dir }

type keyFile struct {
	KeyType string `json:"keytype"`
	KeyVal  struct {
		Public  string `json:"public,omitempty"`
		Private string `json:"private,omitempty"`
		URI     string `json:"uri,omitempty"`
	} `json:"keyval"`
}

// IsURI reports whether a key's name is the URI of a key in a token rather than the name of a file.
func IsURI(name string) bool {
	scheme, rest, ok := strings.Cut(name, ":")
	return ok && rest != "" && scheme != "" && !strings.ContainsAny(scheme, `/\.`)
}

// CheckKeyName refuses a name that would lead out of the folder.
func CheckKeyName(name string) error {
	if name == "" || len(name) > 200 || strings.HasPrefix(name, ".") || strings.ContainsFunc(name, func(r rune) bool {
		return r < 0x20 || r > 0x7e || strings.ContainsRune(`/\:`, r)
	}) {
		return advice.New(advice.Usage, "use letters, digits, '-', '_' and '.'", "key name %q cannot be a file name", name)
	}
	return nil
}

// checkURI refuses a URI that would put a PIN into a file.
func checkURI(uri string) error {
	if strings.Contains(strings.ToLower(uri), "pin-value") {
		return advice.New(advice.Usage, "use pin-source=, or the prompt", "a key URI with a PIN in it does not belong in a file")
	}
	if !IsURI(uri) || strings.ContainsFunc(uri, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
		return advice.New(advice.Usage, "write it as pkcs11:token=...;object=...", "this is not the URI of a key")
	}
	return nil
}

// path takes a key's name with or without its suffix, as users of garage-sign write both.
func (k *Keys) path(name, suffix string) (string, error) {
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".pub"), ".sec")
	if filepath.IsAbs(name) {
		// As with garage-sign, whose users keep keys elsewhere: the folder is that of the path.
		if err := CheckKeyName(filepath.Base(name)); err != nil {
			return "", err
		}
		return filepath.Clean(name) + suffix, nil
	}
	if err := CheckKeyName(name); err != nil {
		return "", err
	}
	return filepath.Join(k.dir, name+suffix), nil
}

// Generate makes a key pair in files, which an offline key should not be: it is for tests and for whoever has no token.
// bits is for RSA, 0 means 2048. It refuses to replace a key.
func (k *Keys) Generate(name string, typ uptane.KeyType, bits int, random io.Reader) (uptane.Key, error) {
	if random == nil {
		random = rand.Reader
	}
	var f keyFile
	var pub crypto.PublicKey
	switch typ {
	case uptane.RSA:
		if bits == 0 {
			bits = 2048
		}
		if bits != 2048 && bits != 3072 && bits != 4096 {
			return uptane.Key{}, advice.New(advice.Usage, "use 2048, 3072 or 4096", "an RSA key of %d bits cannot sign Uptane metadata", bits)
		}
		priv, err := rsa.GenerateKey(random, bits)
		if err != nil {
			return uptane.Key{}, fmt.Errorf("generating an RSA key: %w", err)
		}
		pub = &priv.PublicKey
		f.KeyVal.Private = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(priv)}))
	case uptane.Ed25519:
		if bits != 0 && bits != 256 {
			return uptane.Key{}, advice.New(advice.Usage, "leave the key size out", "an Ed25519 key has 256 bits, not %d", bits)
		}
		p, priv, err := ed25519.GenerateKey(random)
		if err != nil {
			return uptane.Key{}, fmt.Errorf("generating an Ed25519 key: %w", err)
		}
		pub, f.KeyVal.Private = p, hex.EncodeToString(priv)
	default:
		return uptane.Key{}, advice.New(advice.Usage, "use ed25519 or rsa", "key type %q cannot sign Uptane metadata", typ)
	}
	key, err := uptane.NewKey(pub)
	if err != nil {
		return uptane.Key{}, err
	}
	f.KeyType = string(key.Type())
	return key, k.write(name, key, &f)
}

// Link gives a name to a key in a token: it opens the key, finds out whether the token can sign Uptane with it, and
// writes the public key and a stub with the URI. It refuses to replace a key.
func (k *Keys) Link(ctx context.Context, name, uri string) (uptane.Key, error) {
	if err := checkURI(uri); err != nil {
		return uptane.Key{}, err
	}
	signer, closer, err := k.openURI(ctx, uri)
	if err != nil {
		return uptane.Key{}, err
	}
	defer closer.Close()
	if err := uptane.CheckSigner(signer); err != nil {
		return uptane.Key{}, err
	}
	key, err := uptane.NewKey(signer.Public())
	if err != nil {
		return uptane.Key{}, err
	}
	f := keyFile{KeyType: string(key.Type())}
	f.KeyVal.URI = uri
	return key, k.write(name, key, &f)
}

// Import writes a public key alone, for a key whose owner signs elsewhere. It refuses to replace another key.
func (k *Keys) Import(name string, key uptane.Key) error { return k.write(name, key, nil) }

func (k *Keys) write(name string, key uptane.Key, private *keyFile) error {
	pub, err := k.path(name, ".pub")
	if err != nil {
		return err
	}
	sec, err := k.path(name, ".sec")
	if err != nil {
		return err
	}
	for _, p := range []string{pub, sec} {
		if private == nil && p == sec {
			continue
		}
		if _, err := os.Lstat(p); err == nil {
			if have, err := k.Public(name); err == nil && have.ID() == key.ID() && private == nil {
				return nil
			}
			return advice.New(advice.Refused, "choose another name, or move the old files away", "%s exists", p)
		}
	}
	if err := durable.Mkdir(k.dir, 0o700); err != nil {
		return err
	}
	// The private half first: a name whose .pub is there is complete.
	if private != nil {
		b, err := json.MarshalIndent(private, "", "  ")
		if err != nil {
			return err
		}
		err = durable.Create(sec, b, 0o600)
		clear(b)
		if err != nil {
			return err
		}
	}
	b, err := pretty(key)
	if err != nil {
		return err
	}
	return durable.Create(pub, b, 0o600)
}

// Names lists the keys that have a .pub file, sorted.
func (k *Keys) Names() ([]string, error) {
	entries, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if n, ok := strings.CutSuffix(e.Name(), ".pub"); ok && e.Type().IsRegular() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// readFile reads a file that must not be longer than max bytes.
func readFile(path string, max int) ([]byte, error) {
	b, err := input.Read(path, int64(max))
	if errors.Is(err, input.ErrTooLarge) || errors.Is(err, input.ErrNotFile) {
		err = advice.Wrap(advice.Usage, err, "")
	}
	return b, err
}
