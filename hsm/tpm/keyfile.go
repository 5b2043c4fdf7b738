package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
)

// keyFile is the file of a key: lines that say what it is, a code over them and the key, and the key as the TPM wrapped it. Programs that
// read TSS2 PRIVATE KEY files pass over the lines.
type keyFile struct {
	label  string
	id     []byte
	use    hsm.Use
	handle tpm2.TPMHandle // of a persistent copy; 0 without
	blob   *blob
	public *tpm2.TPMTPublic
	key    crypto.PublicKey
	code   []byte
}

const keyFileTitle = "Hanaper key in a TPM"

// lines are what the code covers besides the key.
func (f *keyFile) lines() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nlabel: %s\nid: %x\nuse: %s\n", keyFileTitle, strconv.Quote(f.label), f.id, string(f.use))
	if f.handle != 0 {
		fmt.Fprintf(&b, "handle: 0x%08x\n", uint32(f.handle))
	}
	return b.String()
}

func (f *keyFile) seal(key []byte) { f.code = code(key, "key", []byte(f.lines()), f.blob.der()) }

func (f *keyFile) genuine(key []byte) bool {
	return hmac.Equal(f.code, code(key, "key", []byte(f.lines()), f.blob.der()))
}

func (f *keyFile) encode() []byte {
	return append([]byte(f.lines()+"code: "+hex.EncodeToString(f.code)+"\n"), f.blob.pem()...)
}

var errKeyFile = errors.New("it is not the file of a key")

// parseKeyFile reads a key file, which must be exactly as encode writes it.
func parseKeyFile(data []byte) (*keyFile, error) {
	at := bytes.Index(data, []byte("-----BEGIN "))
	if at < 0 {
		return nil, errKeyFile
	}
	f := &keyFile{}
	lines := strings.Split(string(data[:at]), "\n")
	if len(lines) < 5 || lines[0] != keyFileTitle || lines[len(lines)-1] != "" {
		return nil, errKeyFile
	}
	for _, line := range lines[1 : len(lines)-1] {
		name, value, _ := strings.Cut(line, ": ")
		var err error
		switch name {
		case "label":
			f.label, err = strconv.Unquote(value)
		case "id":
			f.id, err = hex.DecodeString(value)
		case "use":
			f.use = hsm.Use(value)
		case "handle":
			var n uint64
			n, err = strconv.ParseUint(value, 0, 32)
			f.handle = tpm2.TPMHandle(n)
		case "code":
			f.code, err = hex.DecodeString(value)
		default:
			err = errKeyFile
		}
		if err != nil {
			return nil, errKeyFile
		}
	}
	var err error
	if f.blob, err = parseBlob(data[at:]); err != nil {
		return nil, err
	}
	if !bytes.Equal(f.encode(), data) || f.blob.sealed || len(f.id) == 0 || len(f.id) > 255 || checkLabel(f.label) != nil {
		return nil, errKeyFile
	}
	if f.public, err = f.blob.area(); err != nil {
		return nil, err
	}
	f.key, err = publicKey(f.public)
	return f, err
}

// publicKey is the public key of an area, of an algorithm that Hanaper has.
func publicKey(p *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	key, err := tpm2.Pub(*p)
	if err != nil {
		return nil, err
	}
	if ec, ok := key.(*ecdsa.PublicKey); ok {
		if _, err := ec.ECDH(); err != nil {
			return nil, errors.New("its public key is no point of its curve")
		}
	}
	if hsm.AlgorithmOf(key) == "" {
		return nil, fmt.Errorf("%w: a key of another algorithm", hsm.ErrUnsupported)
	}
	return key, nil
}

// attributes are what a public area says in PKCS#11's words. The TPM holds itself to them: an object with fixedTPM is made in it and
// cannot be duplicated, and one with sensitiveDataOrigin was not put in from outside.
func (f *keyFile) attributes() hsm.Attributes {
	a := f.public.ObjectAttributes
	stays := a.FixedTPM && a.FixedParent
	_, rsa := f.public.Parameters.RSADetail()
	return hsm.Attributes{Label: f.label, ID: bytes.Clone(f.id), Algorithm: hsm.AlgorithmOf(f.key),
		Token: !a.STClear, Private: true, Sensitive: true, AlwaysSensitive: stays && a.SensitiveDataOrigin,
		Extractable: !stays, NeverExtractable: stays, Local: a.FixedTPM && a.SensitiveDataOrigin,
		Sign: a.SignEncrypt && !a.Restricted, Decrypt: a.Decrypt && rsa == nil, Derive: a.Decrypt && rsa != nil, Unwrap: a.Decrypt && a.Restricted}
}
