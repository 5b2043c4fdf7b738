package uptane

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/weakkey"
)

// KeyType is the word for a key's kind in metadata.
type KeyType string

// The key types that devices accept.
const (
	RSA     KeyType = "RSA"
	Ed25519 KeyType = "ED25519"
)

// Key is a public key that devices and server accept: RSA of 2048, 3072 or 4096 bits, or Ed25519. The zero Key is none.
type Key struct {
	typ   KeyType
	pub   crypto.PublicKey
	spki  string // DER SubjectPublicKeyInfo
	id    string
	value string // keyval.public
}

const weakHint = "find out who gave you this key, and have a new one made"

// NewKey makes a Key of an *rsa.PublicKey or an ed25519.PublicKey and refuses any other, and one that is known to
// be weak.
func NewKey(pub crypto.PublicKey) (Key, error) { return NewKeyAsOf(format.Version{}, pub) }

// NewKeyAsOf is NewKey by what was known of weak keys when a format of ceremonies was the newest.
func NewKeyAsOf(v format.Version, pub crypto.PublicKey) (Key, error) {
	k, err := newKey(v, pub)
	return k, refused(err)
}

func newKey(v format.Version, pub crypto.PublicKey) (Key, error) {
	k := Key{pub: pub}
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n != 2048 && n != 3072 && n != 4096 {
			return Key{}, hinted(ErrKeyType, "generate an RSA key of 2048, 3072 or 4096 bits, or Ed25519",
				"an RSA key of %d bits cannot sign Uptane metadata", n)
		}
		if p.E < 3 || p.E&1 == 0 {
			return Key{}, hinted(ErrWeakKey, weakHint, "an RSA key with the exponent %d signs nothing", p.E)
		}
		k.typ = RSA
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return Key{}, because(ErrKeyType, "an Ed25519 public key has %d bytes, not %d", ed25519.PublicKeySize, len(p))
		}
		k.typ = Ed25519
		k.value = hex.EncodeToString(p)
	default:
		return Key{}, hinted(ErrKeyType, "devices refuse a whole root that holds such a key: use RSA or Ed25519",
			"a %s key cannot sign Uptane metadata", keyWord(pub))
	}
	if fault := weakkey.FaultAsOf(v, pub); fault != "" {
		return Key{}, hinted(ErrWeakKey, weakHint, "anybody could sign with this key: %s", fault)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Key{}, because(ErrKeyType, "public key cannot be encoded: %v", err)
	}
	if k.typ == RSA {
		k.value = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	digest := sha256.Sum256(der)
	k.spki, k.id = string(der), hex.EncodeToString(digest[:])
	return k, nil
}

func keyWord(pub crypto.PublicKey) string {
	switch fmt.Sprintf("%T", pub) {
	case "*ecdsa.PublicKey":
		return "elliptic-curve (ECDSA)"
	case "*ecdh.PublicKey":
		return "key-agreement"
	}
	return fmt.Sprintf("%T", pub)
}

// ParsePublic reads a public key as people carry it: a PEM of type PUBLIC KEY (SubjectPublicKeyInfo), or the JSON of ParseKey.
func ParsePublic(data []byte) (Key, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return ParseKey(data)
	}
	if block.Type != "PUBLIC KEY" {
		return Key{}, advice.New(advice.Usage, "export it as a PEM that begins with BEGIN PUBLIC KEY", "a PEM of type %q is not a public key", block.Type)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, advice.Wrap(advice.Usage, err, "")
	}
	return NewKey(pub)
}

// ParseKey reads a key's JSON, {"keytype":...,"keyval":{"public":...}}, as it stands in metadata and in .pub files.
func ParseKey(data []byte) (Key, error) {
	if len(data) > maxKeyFile {
		return Key{}, because(ErrTooLarge, "public key of %d bytes is larger than %d", len(data), maxKeyFile)
	}
	v, err := parseJSON(data)
	if err != nil {
		return Key{}, unverified(err)
	}
	// A file is people's: the type is read in any case. In metadata it is signed, and stands as the server writes it.
	for i := range v.members {
		if m := &v.members[i]; m.key == "keytype" && m.value.kind == text {
			m.value.str = strings.ToUpper(m.value.str)
		}
	}
	k, err := keyOf("public key", format.Version{}, &v)
	return k, unverified(err)
}

func keyOf(where string, asOf format.Version, v *value) (Key, error) {
	r := reader{where: where}
	o := r.object(v)
	typ := r.text(o, "keytype")
	val := r.member(o, "keyval")
	r.only(o, "keytype", "keyval")
	vo := r.object(val)
	public := r.text(vo, "public")
	r.only(vo, "public")
	if r.err != nil {
		return Key{}, r.err
	}
	k, err := parseKeyValue(asOf, KeyType(typ), public)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", where, err)
	}
	return k, nil
}

// parseKeyValue reads keyval.public. It demands the very form that the server writes, because the server compares.
func parseKeyValue(asOf format.Version, typ KeyType, public string) (Key, error) {
	var pub crypto.PublicKey
	switch typ {
	case RSA:
		block, rest := pem.Decode([]byte(public))
		if block == nil || len(rest) != 0 {
			return Key{}, because(ErrMalformed, "an RSA public key must be one PEM block")
		}
		if block.Type != "PUBLIC KEY" {
			return Key{}, hinted(ErrKeyType, "convert it: openssl rsa -RSAPublicKey_in -pubout",
				"an RSA public key must be a SubjectPublicKeyInfo (PUBLIC KEY), not a PEM of %q", block.Type)
		}
		p, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return Key{}, because(ErrMalformed, "RSA public key does not parse: %v", err)
		}
		if _, ok := p.(*rsa.PublicKey); !ok {
			return Key{}, because(ErrKeyType, "the key type says RSA, the key is %T", p)
		}
		pub = p
	case Ed25519:
		b, err := hex.DecodeString(public)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return Key{}, because(ErrMalformed, "an Ed25519 public key must be 64 hex digits")
		}
		pub = ed25519.PublicKey(b)
	default:
		if up := KeyType(strings.ToUpper(string(typ))); up == RSA || up == Ed25519 {
			return Key{}, hinted(ErrKeyType, "write it in capitals: the server decodes and encodes again, and signatures over another form would not fit",
				"key type %q is not written as the server writes it, %s", typ, up)
		}
		return Key{}, hinted(ErrKeyType, "devices refuse a whole root that holds such a key: use RSA or ED25519",
			"key type %q is not accepted by devices", typ)
	}
	k, err := newKey(asOf, pub)
	if err != nil {
		return Key{}, err
	}
	if k.value != public {
		return Key{}, because(ErrMalformed, "%s public key is not written the way the server writes it (%s)", typ,
			map[KeyType]string{RSA: "PEM in 64 columns with a final newline", Ed25519: "lower-case hex"}[typ])
	}
	return k, nil
}

// ID is the hex SHA-256 of the DER SubjectPublicKeyInfo.
func (k Key) ID() string { return k.id }

// Type is the key's type.
func (k Key) Type() KeyType { return k.typ }

// Bits is the RSA modulus length, and 256 for Ed25519.
func (k Key) Bits() int {
	if p, ok := k.pub.(*rsa.PublicKey); ok {
		return p.N.BitLen()
	}
	return 256
}

// Algorithm is the type with its size, RSA-3072 or Ed25519, as policies and messages write it.
func (k Key) Algorithm() string {
	if k.typ == RSA {
		return fmt.Sprintf("RSA-%d", k.Bits())
	}
	return "Ed25519"
}

// Public is the key itself, *rsa.PublicKey or ed25519.PublicKey.
func (k Key) Public() crypto.PublicKey { return k.pub }

// SPKI is the DER SubjectPublicKeyInfo.
func (k Key) SPKI() []byte { return []byte(k.spki) }

// Value is keyval.public: a PEM for RSA, 64 hex digits for Ed25519.
func (k Key) Value() string { return k.value }

// Method is the signature method of the key.
func (k Key) Method() Method {
	if k.typ == RSA {
		return RSASSAPSSSHA256
	}
	return MethodEd25519
}

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k.id == "" }

// MarshalJSON gives the key's JSON in canonical form.
func (k Key) MarshalJSON() ([]byte, error) {
	if k.IsZero() {
		return nil, because(ErrKeyType, "no key to encode")
	}
	var w writer
	k.write(&w)
	return w.b, nil
}

func (k Key) write(w *writer) {
	w.open()
	w.key("keytype")
	w.text(string(k.typ))
	w.key("keyval")
	w.open()
	w.key("public")
	w.text(k.value)
	w.close()
	w.close()
}
