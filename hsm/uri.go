package hsm

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// maxURI bounds a key URI; the longest honest one (four 32-byte names, an id and two paths, all escaped) is shorter.
const maxURI = 8 << 10

// URI names a key or the token that holds it. Its scheme says what kind of token that is:
//
//   - pkcs11: is a PKCS#11 URI (RFC 7512), narrowed to what names a token and an object for good: label and serial, never
//     a slot number, which changes from one start to the next, and never a PIN.
//   - tpm: has the same attributes, for a TPM 2.0: serial= names it by its endorsement key, and device= and store= in
//     the query say where the TPM and the key files are on this machine.
//   - every scheme of KMSSchemes is read by go.step.sm/crypto, and only in programs that may be online.
//
// An empty field matches anything.
type URI struct {
	// Scheme is SchemePKCS11, which the zero value means too, SchemeTPM, or one of KMSSchemes.
	Scheme string
	// Opaque is all that follows the scheme of a KMS URI, up to its pin-source; every other field but PINSource is empty then.
	Opaque string
	// Device and Store are of tpm: URIs: the TPM's device or socket and the folder of key files, absolute paths.
	Device, Store string
	// Token is the token's label, Serial its serial number (CK_TOKEN_INFO).
	Token, Serial string
	// Manufacturer and Model narrow the token further; p11tool prints them.
	Manufacturer, Model string
	// Object is CKA_LABEL and ID is CKA_ID.
	Object string
	ID     []byte
	// Type is "private", "public", "cert", "secret-key", "data" or empty.
	Type string
	// ModulePath is the PKCS#11 library, an absolute path.
	ModulePath string
	// InitReserved is the string that some libraries want at their start (pReserved of CK_C_INITIALIZE_ARGS), such as NSS softokn its
	// folder: configdir='sql:/path'. In a URI it is the vendor attribute x-init-reserved, named as in p11-kit's module files.
	InitReserved string
	// PINPolicy is "ask-each" where the PIN is asked for at each use that wants it, and not kept; empty otherwise. In a pkcs11: URI it is
	// the vendor attribute x-pin-policy.
	PINPolicy string
	// PINSource is where the PIN is: an absolute path, or the same as a "file:" URI, or "sealed:" and the path of a sealed PIN (see PINFile).
	PINSource string
}

// AskEach is the PINPolicy of who does not want the PIN kept in memory.
const AskEach = "ask-each"

// The schemes whose attributes Hanaper reads itself.
const (
	SchemePKCS11 = "pkcs11"
	SchemeTPM    = "tpm"
)

// KMSSchemes are those of go.step.sm/crypto/kms: cloud key stores, a YubiKey by its own protocol, and others.
func KMSSchemes() []string {
	return []string{"awskms", "azurekms", "capi", "cloudkms", "mackms", "softkms", "sshagentkms", "tpmkms", "yubikey"}
}

// IsURI says whether s begins with a scheme that ParseURI reads; otherwise it is the path of a file.
func IsURI(s string) bool {
	scheme, _, ok := strings.Cut(s, ":")
	return ok && (scheme == SchemePKCS11 || scheme == SchemeTPM || slices.Contains(KMSSchemes(), scheme))
}

var uriTypes = []string{"private", "public", "cert", "secret-key", "data"}

// refusedAttributes are those of RFC 7512 that Hanaper never takes, with the reason.
var refusedAttributes = map[string]string{
	"slot-id":              "slot numbers change; name the token by token= and serial=",
	"slot-description":     "slots change; name the token by token= and serial=",
	"slot-manufacturer":    "slots change; name the token by token= and serial=",
	"library-description":  "name the library by module-path=",
	"library-manufacturer": "name the library by module-path=",
	"library-version":      "name the library by module-path=",
	"module-name":          "name the library by module-path=, an absolute path",
	"pin-value":            "a PIN in a URI ends up in logs and process lists; use pin-source= or the prompt",
}

// ParseURI reads a PKCS#11 URI. Unknown, repeated and refused attributes are errors (advice.Usage) that never repeat
// an attribute's value, which may be a PIN.
func ParseURI(s string) (URI, error) {
	const hint = "write it as pkcs11:token=LABEL;serial=SERIAL;object=NAME?module-path=/path/to/lib.so; `hanaper token list` prints it"
	fail := func(format string, args ...any) (URI, error) {
		return URI{}, advice.New(advice.Usage, hint, "key URI: "+format, args...)
	}
	if len(s) > maxURI {
		return fail("longer than %d bytes", maxURI)
	}
	scheme, rest, _ := strings.Cut(s, ":")
	if !IsURI(s) {
		return fail("does not begin with pkcs11:, tpm: or the scheme of another key store (%s)", strings.Join(KMSSchemes(), ", "))
	}
	var u URI
	if scheme != SchemePKCS11 {
		u.Scheme = scheme
	}
	if slices.Contains(KMSSchemes(), scheme) {
		if err := u.readOpaque(rest); err != nil {
			return fail("%w", err)
		}
		return u, nil
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	seen := map[string]bool{}
	take := func(part string, inQuery bool) error {
		name, escaped, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("an attribute without a value")
		}
		if why, refused := refusedAttributes[name]; refused {
			return fmt.Errorf("attribute %s is refused: %s", show.Text(name), why)
		}
		text, isText := u.field(name, inQuery)
		if !isText && (name != "id" || inQuery) {
			return fmt.Errorf("unknown attribute %s", printable(name))
		}
		if seen[name] {
			return fmt.Errorf("attribute %s is given twice", show.Text(name))
		}
		seen[name] = true
		value, err := unescape(escaped, inQuery)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", show.Text(name), err)
		}
		if len(value) == 0 {
			return fmt.Errorf("attribute %s is empty", show.Text(name))
		}
		if name == "id" {
			u.ID = value
			return nil
		}
		if bytes.IndexByte(value, 0) >= 0 {
			return fmt.Errorf("attribute %s holds a NUL byte", show.Text(name))
		}
		*text = string(value)
		return nil
	}
	if path != "" {
		for part := range strings.SplitSeq(path, ";") {
			if err := take(part, false); err != nil {
				return fail("%w", err)
			}
		}
	}
	if hasQuery {
		for part := range strings.SplitSeq(query, "&") {
			if err := take(part, true); err != nil {
				return fail("%w", err)
			}
		}
	}
	if u.PINPolicy != "" && u.PINPolicy != AskEach {
		return fail("x-pin-policy is not %s", AskEach)
	}
	if u.Type != "" && !slices.Contains(uriTypes, u.Type) {
		return fail("type is none of %s", strings.Join(uriTypes, ", "))
	}
	for name, path := range map[string]string{"module-path": u.ModulePath, "device": u.Device, "store": u.Store} {
		if path != "" && !strings.HasPrefix(path, "/") {
			return fail("%s is not an absolute path", show.Text(name))
		}
	}
	if u.PINSource != "" {
		if err := checkPINSource(u.PINSource); err != nil {
			return URI{}, err
		}
	}
	return u, nil
}

// field gives the place of an attribute other than id.
func (u *URI) field(name string, inQuery bool) (*string, bool) {
	if inQuery {
		switch {
		case name == "module-path" && u.Scheme == "":
			return &u.ModulePath, true
		case name == "x-init-reserved" && u.Scheme == "":
			return &u.InitReserved, true
		case name == "x-pin-policy" && u.Scheme == "":
			return &u.PINPolicy, true
		case name == "device" && u.Scheme == SchemeTPM:
			return &u.Device, true
		case name == "store" && u.Scheme == SchemeTPM:
			return &u.Store, true
		case name == "pin-source":
			return &u.PINSource, true
		}
		return nil, false
	}
	switch name {
	case "token":
		return &u.Token, true
	case "serial":
		return &u.Serial, true
	case "manufacturer":
		return &u.Manufacturer, true
	case "model":
		return &u.Model, true
	case "object":
		return &u.Object, true
	case "type":
		return &u.Type, true
	}
	return nil, false
}

// readOpaque takes the URI of a KMS as it stands, except for what must not stand in one and a pin-source at its end.
func (u *URI) readOpaque(rest string) error {
	for part := range strings.FieldsFuncSeq(rest, func(r rune) bool { return r == ';' || r == '?' || r == '&' }) {
		switch name, _, _ := strings.Cut(part, "="); name {
		case "pin-value", "pin", "management-key", "storage-password", "password":
			return fmt.Errorf("attribute %s is refused: a secret in a URI ends up in logs and process lists; use pin-source=", show.Text(name))
		}
	}
	before, pin, found := strings.Cut(rest, "?pin-source=")
	if found {
		value, err := unescape(pin, true)
		if err != nil {
			return fmt.Errorf("attribute pin-source: %w", err)
		}
		u.PINSource = string(value)
		if err := checkPINSource(u.PINSource); err != nil {
			return err
		}
	}
	if strings.Contains(before, "pin-source") {
		return fmt.Errorf("pin-source is written once, at the end, after a question mark")
	}
	for i := range len(before) {
		if c := before[i]; c <= ' ' || c >= 0x7f {
			return fmt.Errorf("byte 0x%02x must be written %%%02X", c, c)
		}
	}
	if before == "" {
		return fmt.Errorf("nothing follows the scheme")
	}
	u.Opaque = before
	return nil
}

// String writes the URI in one canonical form: ParseURI(u.String()) is u.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString(cmp.Or(u.Scheme, SchemePKCS11) + ":" + u.Opaque)
	sep := ""
	add := func(name, value string, inQuery bool) {
		if value == "" {
			return
		}
		b.WriteString(sep + name + "=" + escape(value, inQuery))
		sep = ";"
		if inQuery {
			sep = "&"
		}
	}
	add("token", u.Token, false)
	add("serial", u.Serial, false)
	add("manufacturer", u.Manufacturer, false)
	add("model", u.Model, false)
	add("object", u.Object, false)
	if len(u.ID) > 0 {
		b.WriteString(sep + "id=")
		for _, c := range u.ID { // RFC 7512 section 2.3: id should be escaped throughout
			fmt.Fprintf(&b, "%%%02X", c)
		}
		sep = ";"
	}
	add("type", u.Type, false)
	sep = "?"
	add("module-path", u.ModulePath, true)
	add("x-init-reserved", u.InitReserved, true)
	add("device", u.Device, true)
	add("store", u.Store, true)
	add("x-pin-policy", u.PINPolicy, true)
	add("pin-source", u.PINSource, true)
	return b.String()
}

// TokenURI is u without its object: the token, its library and its PIN's place.
func (u URI) TokenURI() URI {
	u.Object, u.ID, u.Type = "", nil, ""
	return u
}

// Query is the object that u names.
func (u URI) Query() Query { return Query{Label: u.Object, ID: u.ID} }

// MatchesToken says whether a token is the one that u names. A URI that names no token matches every one.
func (u URI) MatchesToken(t TokenInfo) bool {
	fits := func(want, have string) bool { return want == "" || want == have }
	return fits(u.Token, t.Label) && fits(u.Serial, t.Serial) && fits(u.Manufacturer, t.Manufacturer) && fits(u.Model, t.Model)
}

// String names what the query looks for, for messages.
func (q Query) String() string {
	switch {
	case q.Label != "" && len(q.ID) > 0:
		return fmt.Sprintf("%q with id %x", q.Label, q.ID)
	case q.Label != "":
		return fmt.Sprintf("%q", q.Label)
	case len(q.ID) > 0:
		return fmt.Sprintf("with id %x", q.ID)
	}
	return "of any name"
}

// Name is how messages name a token.
func (t TokenInfo) Name() string {
	if t.Serial == "" {
		return fmt.Sprintf("token %q (no serial)", t.Label)
	}
	return fmt.Sprintf("token %q (serial %s)", t.Label, show.Text(t.Serial))
}

// URI names the token by label and serial.
func (t TokenInfo) URI() URI { return URI{Scheme: t.Scheme, Token: t.Label, Serial: t.Serial} }

// plain are the characters that RFC 7512 section 2.3 lets stand unescaped in a path or a query value, except those
// that separate attributes there.
const plainPath, plainQuery = ":[]@!$'()*+,=&", ":[]@!$'()*+,=/?|"

func isPlain(c byte, inQuery bool) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
		return true
	}
	if inQuery {
		return strings.IndexByte(plainQuery, c) >= 0
	}
	return strings.IndexByte(plainPath, c) >= 0
}

func escape(s string, inQuery bool) string {
	var b strings.Builder
	for i := range len(s) {
		// A plus is plain by the RFC, but who reads the URI as a web form takes it for a space: it is read as it stands, and
		// written escaped. So is what a shell reads between quotation marks: people copy URIs into commands, and a label, which is
		// anybody's, would be run. The query is the machine's own.
		if c := s[i]; isPlain(c, inQuery) && c != '+' && c != '$' && c != '!' && (inQuery || c != '\'') {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func unescape(s string, inQuery bool) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '%' {
			if !isPlain(c, inQuery) {
				return nil, fmt.Errorf("byte 0x%02x must be written %%%02X", c, c)
			}
			out = append(out, c)
			continue
		}
		if i+2 >= len(s) {
			return nil, fmt.Errorf("an escape is cut short")
		}
		hi, ok1 := unhex(s[i+1])
		lo, ok2 := unhex(s[i+2])
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("an escape is not two hex digits")
		}
		out = append(out, hi<<4|lo)
		i += 2
	}
	return out, nil
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// printable shows an attribute's name, never longer than a name can be.
func printable(name string) string {
	if len(name) > 40 {
		name = name[:40] + "..."
	}
	return fmt.Sprintf("%q", name)
}
