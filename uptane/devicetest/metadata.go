package devicetest

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The errors of verification, as an ECU reports them.
var (
	ErrRollback  = errors.New("a version lower than one that was seen")
	ErrSignature = errors.New("not signed by enough of the right keys")
	ErrExpired   = errors.New("expired")
	ErrMismatch  = errors.New("not what was announced")
	ErrMalformed = errors.New("malformed metadata")
)

// canonical is the form that is signed: members sorted, no white space, the short escapes of JSON, ASCII alone.
func canonical(b []byte, v any) ([]byte, error) {
	var err error
	switch x := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, x), nil
	case json.Number:
		if _, err := strconv.ParseInt(x.String(), 10, 64); err != nil {
			return nil, fmt.Errorf("%w: number %s", ErrMalformed, x)
		}
		return append(b, x.String()...), nil
	case string:
		return quoted(b, x)
	case []any:
		b = append(b, '[')
		for i, item := range x {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = canonical(b, item); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		names := make([]string, 0, len(x))
		for name := range x {
			names = append(names, name)
		}
		slices.Sort(names)
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = quoted(b, name); err != nil {
				return nil, err
			}
			if b, err = canonical(append(b, ':'), x[name]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, fmt.Errorf("%w: %T", ErrMalformed, v)
}

var escapes = map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

func quoted(b []byte, s string) ([]byte, error) {
	b = append(b, '"')
	for _, c := range s {
		e, short := escapes[c]
		switch {
		case short:
			b = append(b, e...)
		case c < 0x20 || c > 0x7e:
			return nil, fmt.Errorf("%w: character %U", ErrMalformed, c)
		default:
			b = append(b, byte(c))
		}
	}
	return append(b, '"'), nil
}

// decode reads one JSON value; numbers keep their text.
func decode(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if d.More() {
		return nil, fmt.Errorf("%w: data after the end", ErrMalformed)
	}
	return v, nil
}

// object is a JSON object whose members are looked up without saying each time that they may be missing: what is missing is
// the zero value, which no check below lets pass.
type object map[string]any

func (o object) object(name string) object { m, _ := o[name].(map[string]any); return m }
func (o object) list(name string) []any    { l, _ := o[name].([]any); return l }
func (o object) text(name string) string   { s, _ := o[name].(string); return s }
func (o object) number(name string) int64 {
	n, ok := o[name].(json.Number)
	if !ok {
		return -1
	}
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}

func (o object) texts(name string) []string {
	var out []string
	for _, v := range o.list(name) {
		s, _ := v.(string)
		out = append(out, s)
	}
	return out
}

// document is a file of metadata.
type document struct {
	raw        []byte
	signed     object
	message    []byte // the bytes that are signed
	signatures []any
}

func parse(data []byte, typ string) (*document, error) {
	v, err := decode(data)
	if err != nil {
		return nil, err
	}
	m, _ := v.(map[string]any)
	d := &document{raw: data, signed: object(m).object("signed"), signatures: object(m).list("signatures")}
	if d.signed == nil || d.signed.text("_type") != typ {
		return nil, fmt.Errorf("%w: it is no %s", ErrMalformed, typ)
	}
	d.message, err = canonical(nil, map[string]any(d.signed))
	return d, err
}

func (d *document) version() int64 { return d.signed.number("version") }

func (d *document) expiry() (time.Time, error) {
	return time.Parse("2006-01-02T15:04:05Z", d.signed.text("expires"))
}

func (d *document) current(now time.Time) error {
	t, err := d.expiry()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if now.After(t) {
		return fmt.Errorf("%w: %s on %s", ErrExpired, d.signed.text("_type"), t)
	}
	return nil
}

// publicKey reads a key of metadata. A type that is not known makes the whole document unusable.
func publicKey(o object) (crypto.PublicKey, error) {
	value := o.object("keyval").text("public")
	switch strings.ToUpper(o.text("keytype")) {
	case "RSA":
		block, rest := pem.Decode([]byte(value))
		if block == nil || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("%w: an RSA key that is no PEM", ErrMalformed)
		}
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if r, ok := pub.(*rsa.PublicKey); ok && slices.Contains([]int{2048, 3072, 4096}, r.N.BitLen()) {
			return r, nil
		}
	case "ED25519":
		if b, err := hex.DecodeString(value); err == nil && len(b) == ed25519.PublicKeySize {
			return ed25519.PublicKey(b), nil
		}
	}
	return nil, fmt.Errorf("%w: a key of type %q", ErrMalformed, o.text("keytype"))
}

// keyring is who may sign, and how many must.
type keyring struct {
	keys      map[string]crypto.PublicKey
	threshold int64
}

// role takes a role's keys out of a root, or a delegation's out of targets.
func role(keys object, rule object) (keyring, error) {
	out := keyring{keys: map[string]crypto.PublicKey{}, threshold: rule.number("threshold")}
	if out.threshold < 1 {
		return out, fmt.Errorf("%w: a threshold of %d", ErrMalformed, out.threshold)
	}
	for _, id := range rule.texts("keyids") {
		pub, err := publicKey(keys.object(id))
		if err != nil {
			return out, err
		}
		out.keys[id] = pub
	}
	return out, nil
}

func (d *document) role(name string) (keyring, error) {
	return role(d.signed.object("keys"), d.signed.object("roles").object(name))
}

// verify counts different keys with a valid signature.
func (d *document) verify(by keyring) error {
	seen, valid := map[string]bool{}, map[string]bool{}
	for _, v := range d.signatures {
		m, _ := v.(map[string]any)
		o := object(m)
		id := o.text("keyid")
		if seen[id] {
			return fmt.Errorf("%w: two signatures of key %s", ErrSignature, id)
		}
		seen[id] = true
		pub, known := by.keys[id]
		if !known {
			continue
		}
		sig, err := base64.StdEncoding.DecodeString(o.text("sig"))
		if err != nil || !verifies(pub, o.text("method"), d.message, sig) {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return err
		}
		valid[string(der)] = true
	}
	if int64(len(valid)) < by.threshold {
		return fmt.Errorf("%w: %s version %d has %d of %d", ErrSignature, d.signed.text("_type"), d.version(), len(valid), by.threshold)
	}
	return nil
}

func verifies(pub crypto.PublicKey, method string, message, sig []byte) bool {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return method == "ed25519" && ed25519.Verify(k, message, sig)
	case *rsa.PublicKey:
		digest := sha256.Sum256(message)
		return (method == "rsassa-pss-sha256" || method == "rsassa-pss") &&
			rsa.VerifyPSS(k, crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}) == nil
	}
	return false
}

// nextRoot checks that a root may follow another: signed by the keys of both, one version higher.
func nextRoot(old, next *document) error {
	if next.version() != old.version()+1 {
		return fmt.Errorf("%w: root version %d after %d", ErrRollback, next.version(), old.version())
	}
	for _, d := range []*document{old, next} {
		by, err := d.role("root")
		if err != nil {
			return err
		}
		if err := next.verify(by); err != nil {
			return err
		}
	}
	// Every key of a root must be one that is known, whatever its role.
	for id := range next.signed.object("keys") {
		if _, err := publicKey(next.signed.object("keys").object(id)); err != nil {
			return err
		}
	}
	return nil
}

// listed checks a file against what the metadata above it says.
func listed(meta object, name string, file *document) error {
	o := meta.object(name)
	sum := sha256.Sum256(file.raw)
	switch {
	case o == nil:
		return fmt.Errorf("%w: %s is not listed", ErrMismatch, name)
	case o.number("version") != file.version():
		return fmt.Errorf("%w: %s has version %d, and %d is listed", ErrMismatch, name, file.version(), o.number("version"))
	case int64(len(file.raw)) > o.number("length"):
		return fmt.Errorf("%w: %s is longer than listed", ErrMismatch, name)
	case o.object("hashes").text("sha256") != hex.EncodeToString(sum[:]):
		return fmt.Errorf("%w: %s has another hash than listed", ErrMismatch, name)
	}
	return nil
}

// matches is the shell's matching of a whole name, in which * and ? match slashes too.
func matches(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	switch pattern[0] {
	case '*':
		return matches(pattern[1:], name) || name != "" && matches(pattern, name[1:])
	case '?':
		return name != "" && matches(pattern[1:], name[1:])
	}
	return name != "" && name[0] == pattern[0] && matches(pattern[1:], name[1:])
}
