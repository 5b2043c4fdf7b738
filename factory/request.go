package factory

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"regexp"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
)

// FileKey reads a PKCS#8 key from a file that nobody else may read, or makes one (P-256) there.
func FileKey(path string) (key crypto.Signer, made bool, err error) {
	if key, made, err = fileKey(path); made {
		err = WriteKey(path, key)
	}
	return key, made, err
}

// fileKey is FileKey, and does not write the key that it makes.
func fileKey(path string) (key crypto.Signer, made bool, err error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		return key, err == nil, err
	}
	if err != nil {
		return nil, false, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, false, advice.New(advice.Refused, "run: chmod 600 "+path, "key file %s: mode %04o lets group or others in", show.Text(path), st.Mode().Perm())
	}
	b, err := readFile(path)
	if err != nil {
		return nil, false, err
	}
	defer clear(b)
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, false, advice.New(advice.Usage, "", "%s is no PKCS#8 key in PEM", show.Text(path))
	}
	defer clear(block.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, false, advice.New(advice.Usage, "", "%s holds no key that can be read", show.Text(path))
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, false, advice.New(advice.Usage, "", "%s holds a key that cannot sign", show.Text(path))
	}
	return signer, false, nil
}

// WriteKey puts a key in a new file, PKCS#8 in PEM, mode 0600.
func WriteKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(b)
	return durable.Create(path, b, 0o600)
}

// WriteRequest makes a certification request with the key in a file, made if it is not there, and puts it in a new file. It says whether the key was made.
// Where it fails it leaves neither.
func WriteRequest(keyPath, outPath string, t csr.Template, p *csr.Policy) (made bool, err error) {
	key, made, err := fileKey(keyPath)
	if err != nil {
		return false, err
	}
	der, err := csr.Create(rand.Reader, key, t)
	if err != nil {
		return false, err
	}
	if _, err := csr.Parse(der, p); err != nil {
		return false, advice.Wrap(advice.Usage, err, "")
	}
	if made {
		if err := WriteKey(keyPath, key); err != nil {
			return false, err
		}
	}
	if err := durable.Create(outPath, csr.PEM(der), 0o644); err != nil {
		if made {
			_ = durable.Remove(keyPath)
		}
		return false, err
	}
	return made, nil
}

var callerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// WriteCallerRequest is WriteRequest for a station or an operator: the name as CN and nothing else. The role is not the
// caller's to ask for: the ceremony's script gives it.
func WriteCallerRequest(name, keyPath, outPath string) (made bool, err error) {
	if !callerName.MatchString(name) {
		return false, advice.New(advice.Usage, "use letters, digits, dots, dashes", "the name %.80q", name)
	}
	var t csr.Template
	t.Subject.CommonName = name
	return WriteRequest(keyPath, outPath, t, csr.ClientPolicy())
}
