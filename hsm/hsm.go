// Package hsm says what a token and a key are, whatever holds them: a PKCS#11 token, a TPM, or a throw-away SoftHSM.
//
// It trusts the token's answers only as far as they can be checked: a freshly generated key is refused when the
// attributes that the token reads back are not exactly those of its class, and callers verify every signature in
// software before they use it. An attacker who controls the PKCS#11 module controls the keys; one who controls a key
// URI can at most name another token or key, which label, serial and public key then give away.
package hsm

import (
	"context"
	"crypto"
	"crypto/x509"
	"io"
)

// Algorithm names a key type and size, in the words used in scripts, configs and messages.
type Algorithm string

// The algorithms that Hanaper generates and signs with.
const (
	P256    Algorithm = "P-256"
	P384    Algorithm = "P-384"
	RSA2048 Algorithm = "RSA-2048"
	RSA3072 Algorithm = "RSA-3072"
	RSA4096 Algorithm = "RSA-4096"
	Ed25519 Algorithm = "Ed25519"
)

// Algorithms lists every Algorithm, in the order in which messages list them.
func Algorithms() []Algorithm {
	return []Algorithm{P256, P384, RSA2048, RSA3072, RSA4096, Ed25519}
}

// Class is the protection that a key was declared with; the attributes read back must be exactly those of the class.
type Class string

const (
	// Sealed: born in the token, sensitive, never extractable. The default.
	Sealed Class = "sealed"
	// Backup: born in the token, extractable only under a wrapping key that the security officer marked trusted.
	Backup Class = "backup"
	// Restored: unwrapped from a backup; sensitive and unextractable from then on, but not born in this token.
	Restored Class = "restored"
	// RestoredBackup: unwrapped from a backup to be backed up anew: sensitive, and extractable only under a wrapping key that the
	// security officer marked trusted, until it is sealed after its backup.
	RestoredBackup Class = "restored-backup"
	// Unread: kept by a store that tells nobody its keys' attributes, such as a cloud's. Whether such a key can leave its store
	// is the store's word alone; no ceremony makes one.
	Unread Class = "unread"
)

// Wrappable says whether a key of the class may leave its token under a trusted wrapping key, until it is sealed after its backup.
func (c Class) Wrappable() bool { return c == Backup || c == RestoredBackup }

// TokenInfo describes a token as it reports itself.
type TokenInfo struct {
	// Scheme is that of the token's URI: SchemePKCS11, which the zero value means too, or SchemeTPM.
	Scheme       string `json:"scheme,omitempty" since:"1.2"`
	Label        string `json:"label"`
	Serial       string `json:"serial"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Hardware     string `json:"hardware_version"`
	Firmware     string `json:"firmware_version"`
	Module       string `json:"module"`
	Initialized  bool   `json:"initialized"`
	// LoginRequired and the three PIN warnings mirror CKF_LOGIN_REQUIRED, CKF_USER_PIN_COUNT_LOW,
	// CKF_USER_PIN_FINAL_TRY and CKF_USER_PIN_LOCKED (PKCS#11 v2.40, section 3.2).
	LoginRequired bool `json:"login_required"`
	PINSet        bool `json:"pin_set"`
	PINLow        bool `json:"pin_tries_low"`
	PINFinalTry   bool `json:"pin_final_try"`
	PINLocked     bool `json:"pin_locked"`
	// PINState says in words how many wrong PINs were counted, where the token tells; empty if none were.
	PINState string `json:"pin_state,omitempty" since:"1.2"`
	// PINPad mirrors CKF_PROTECTED_AUTHENTICATION_PATH: the PIN is typed at the token's own keys, and no program sees it.
	PINPad bool `json:"pin_pad,omitempty" since:"1.2"`
	// Reader describes the slot that the token is in, in the words of its library; OpenSC gives the card reader's name.
	Reader string `json:"reader,omitempty" since:"1.2"`
	// MinPIN and MaxPIN are the lengths in bytes that the token accepts.
	MinPIN int `json:"min_pin_length"`
	MaxPIN int `json:"max_pin_length"`
}

// Attributes are what the token reads back of a private key (PKCS#11 v2.40, sections 4.4, 4.8 and 4.9).
type Attributes struct {
	// Unread is true where the store tells no attributes: those below but for Label, Algorithm and Sign are unknown then, not
	// false. Ceremonies have no such keys, so the formats that ceremonies write do not know it.
	Unread    bool      `json:"-"`
	Label     string    `json:"label"`
	ID        []byte    `json:"id"`
	Algorithm Algorithm `json:"algorithm"`
	// Token is true for an object that outlives the session.
	Token              bool `json:"token"`
	Private            bool `json:"private"`
	Sensitive          bool `json:"sensitive"`
	AlwaysSensitive    bool `json:"always_sensitive"`
	Extractable        bool `json:"extractable"`
	NeverExtractable   bool `json:"never_extractable"`
	Local              bool `json:"local"`
	Sign               bool `json:"sign"`
	Decrypt            bool `json:"decrypt"`
	Derive             bool `json:"derive"`
	Unwrap             bool `json:"unwrap"`
	WrapWithTrusted    bool `json:"wrap_with_trusted"`
	AlwaysAuthenticate bool `json:"always_authenticate"`
	Modifiable         bool `json:"modifiable"`
}

// Key is a private key in a token. Sign follows crypto.Signer: digest is a hash for ECDSA and RSA (opts is
// *rsa.PSSOptions for PSS; a salt length of PSSSaltLengthEqualsHash or the hash's size), and the message itself for
// Ed25519 (opts.HashFunc() == 0). It is safe for concurrent use.
type Key interface {
	crypto.Signer
	// SignContext is Sign within a context: it returns when the context ends, whether or not the token has answered.
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	// Attributes are those read back when the key was found or generated.
	Attributes() Attributes
	// Token describes the token that holds the key.
	Token() TokenInfo
	// URI names the key by token label and serial, object label and id (RFC 7512).
	URI() URI
}

// Use is the one thing that a key pair is for.
type Use string

const (
	// Signing is the default.
	Signing Use = "sign"
	// Agreement is elliptic-curve Diffie-Hellman, for an officer's decryption key (P-256, P-384).
	Agreement Use = "agree"
	// Decryption is RSA-OAEP, for an officer's decryption key.
	Decryption Use = "decrypt"
)

// GenerateSpec asks a token for a new key pair.
type GenerateSpec struct {
	// Label is required and must not exist in the token.
	Label string
	// ID is CKA_ID; nil means the first 20 bytes of the SHA-256 of the SubjectPublicKeyInfo.
	ID        []byte
	Algorithm Algorithm
	// Class defaults to Sealed.
	Class Class
	// Use defaults to Signing.
	Use Use
}

// RestoreSpec asks a token to unwrap a backup as a signing key.
type RestoreSpec struct {
	// Class is Restored, the default, or RestoredBackup.
	Class Class
	// Label and ID are required and must not exist in the token.
	Label string
	ID    []byte
	// Public is the key's public half as it was recorded when it was generated: what is unwrapped must sign for it.
	Public crypto.PublicKey
	// Wrapping names the trusted wrapping key in the token.
	Wrapping Query
	// Wrapped is the output of AES key wrap with padding (RFC 5649) over the PKCS#8 private key.
	Wrapped []byte
}

// SecurityOfficer is what can be done while the security officer (CKU_SO) is logged in, who sees no private object.
type SecurityOfficer interface {
	// ImportWrappingKey stores an AES-256 key that wraps and unwraps other keys, marked trusted. The caller wipes key.
	ImportWrappingKey(label string, id, key []byte) error
	// InitPIN sets the user PIN, whatever it was.
	InitPIN(pin []byte) error
	// SetPIN changes the security officer's own PIN.
	SetPIN(before, after []byte) error
}

// Query finds keys; empty fields match anything.
type Query struct {
	Label string
	ID    []byte
}

// Token is an open token, logged in once for all its sessions. It is safe for concurrent use.
type Token interface {
	io.Closer
	Info() TokenInfo
	// Key finds exactly one private key; none, or more than one, is an error that names the token and the query.
	Key(ctx context.Context, q Query) (Key, error)
	// Keys lists all private keys.
	Keys(ctx context.Context) ([]Key, error)
	// Generate makes a key pair, reads its attributes back, and destroys and refuses a key that came out otherwise
	// than its class says.
	Generate(ctx context.Context, s GenerateSpec) (Key, error)
	// Destroy removes the key pair that q names and proves its absence.
	Destroy(ctx context.Context, q Query) error
	// PutCertificate stores a certificate object; an existing one with the same id and other bytes is refused.
	PutCertificate(ctx context.Context, label string, id []byte, cert *x509.Certificate) error
	// Certificate finds the certificate object with this id.
	Certificate(ctx context.Context, id []byte) (*x509.Certificate, error)
}

// PINSource gives the PIN of a token, asked for once at login. The caller of the source wipes the bytes after use.
// It is told the token so that a prompt can name it and show that tries are low.
type PINSource func(ctx context.Context, t TokenInfo) ([]byte, error)
