package quorum

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/internal/weakkey"
)

const (
	rosterType    = "hanaper-roster/1"
	enrolmentType = "hanaper-officer/1"
)

type officerJSON struct {
	Name          string     `json:"name"`
	Role          Role       `json:"role"`
	SigningKey    string     `json:"signing_key"`
	Scheme        Scheme     `json:"scheme"`
	DecryptionKey string     `json:"decryption_key,omitempty"`
	Decryption    Decryption `json:"decryption,omitempty"`
}

type rosterJSON struct {
	Type        string        `json:"type"`
	Environment string        `json:"environment"`
	Epoch       uint64        `json:"epoch"`
	Threshold   int           `json:"threshold"`
	Issued      string        `json:"issued"`
	Previous    *Digest       `json:"previous,omitempty"`
	Officers    []officerJSON `json:"officers"`
}

// RosterConfig is what a new roster is made of.
type RosterConfig struct {
	// Environment is a name of lower-case letters, digits, dot and dash, such as production.
	Environment string
	// Threshold is M; at least 1, at most the number of officers of role officer.
	Threshold int
	// Issued is cut to the second.
	Issued time.Time
	// Previous is the roster to be replaced; nil for the first one.
	Previous *Roster
	Officers []Officer
}

// NewRoster makes a roster. It is not in force before M of the previous one approved it (Succeed), or, for the first
// one, before people compared its digest.
func NewRoster(c RosterConfig) (*Roster, error) {
	j := rosterJSON{Type: rosterType, Environment: c.Environment, Epoch: 1, Threshold: c.Threshold,
		Issued: c.Issued.UTC().Format(time.RFC3339), Officers: make([]officerJSON, len(c.Officers))}
	if p := c.Previous; p != nil {
		j.Epoch, j.Previous = p.epoch+1, &p.digest
		if p.environment != c.Environment {
			return nil, refused("", "roster: environment %q, but the previous roster is of %q", c.Environment, p.environment)
		}
		if c.Issued.Truncate(time.Second).Before(p.issued) {
			return nil, refused("", "roster: issued before the previous one, of %s", p.issued.Format(time.RFC3339))
		}
	}
	for i, o := range c.Officers {
		var err error
		if j.Officers[i], err = encodeOfficer(o); err != nil {
			return nil, err
		}
	}
	data, err := encode(j)
	if err != nil {
		return nil, err
	}
	return ParseRoster(data)
}

// ParseRoster reads a roster document. It checks its form only: see OpenRoster and Succeed for whether it counts.
func ParseRoster(data []byte) (*Roster, error) { return ParseRosterAsOf(format.Version{}, data) }

// ParseRosterAsOf is ParseRoster by what was known of weak keys when a format of ceremonies was the newest: for the roster
// of an old ceremony, which a later one carries on from and may replace.
func ParseRosterAsOf(v format.Version, data []byte) (*Roster, error) {
	var j rosterJSON
	if err := decode("roster", data, rosterType, &j, func() string { return j.Type }); err != nil {
		return nil, err
	}
	r := &Roster{environment: j.Environment, epoch: j.Epoch, threshold: j.Threshold, data: bytes.Clone(data), digest: Sum(data), asOf: v}
	if err := checkEnvironment(j.Environment); err != nil {
		return nil, usage("roster: %w", err)
	}
	if (j.Epoch == 1) != (j.Previous == nil) || j.Epoch == 0 {
		return nil, usage("roster: epoch %d: epoch 1 names no previous roster, every later one does", j.Epoch)
	}
	if j.Previous != nil {
		r.previous = *j.Previous
	}
	var err error
	if r.issued, err = parseTime(j.Issued); err != nil {
		return nil, usage("roster: issued: %w", err)
	}
	if len(j.Officers) > MaxOfficers {
		return nil, usage("roster: %d officers; at most %d are allowed", len(j.Officers), MaxOfficers)
	}
	for _, oj := range j.Officers {
		o, err := decodeOfficer(v, oj)
		if err != nil {
			return nil, usage("roster: %w", err)
		}
		r.officers = append(r.officers, o)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	// One roster, one encoding: what people compare is what is parsed.
	if again, err := encode(j); err != nil || !bytes.Equal(again, data) {
		return nil, usage("roster: not in its canonical form (two spaces of indent, keys in the order of the specification)")
	}
	return r, nil
}

func (r *Roster) check() error {
	names, keys, voters := map[string]bool{}, map[string]string{}, 0
	for _, o := range r.officers {
		name := strings.ToLower(o.Name)
		if names[name] {
			return usage("roster: two people are named %q", o.Name)
		}
		names[name] = true
		for _, key := range []struct {
			id  string
			pub crypto.PublicKey
		}{{o.KeyID, o.SigningKey}, {o.DecryptionKeyID, o.DecryptionKey}} {
			if key.id == "" {
				continue
			}
			who := holder(key.pub)
			if other, ok := keys[who]; ok {
				return usage("roster: key %.16s stands twice, for %s and for %s: every signing and decryption key must be another", show.Text(key.id), show.Text(other), show.Text(o.Name))
			}
			keys[who] = o.Name
		}
		if o.Role == RoleOfficer {
			voters++
		}
	}
	if r.threshold < 1 || r.threshold > voters {
		return usage("roster: threshold %d, but %d people have the role officer", r.threshold, voters)
	}
	return nil
}

// holder is the same for public keys whose private halves are had together: RSA keys with one modulus and two exponents,
// and points that differ in their sign.
func holder(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return "rsa " + k.N.Text(16)
	case *ecdsa.PublicKey:
		if point, err := k.Bytes(); err == nil {
			return "ec " + hex.EncodeToString(point[1:1+len(point)/2])
		}
	case ed25519.PublicKey:
		y := bytes.Clone(k)
		y[len(y)-1] &= 0x7f
		return "ed " + hex.EncodeToString(y)
	}
	return keyID(pub)
}

func encodeOfficer(o Officer) (officerJSON, error) {
	der, err := x509.MarshalPKIXPublicKey(o.SigningKey)
	if err != nil {
		return officerJSON{}, fmt.Errorf("%w: %s: %w", ErrKey, show.Text(o.Name), err)
	}
	j := officerJSON{Name: o.Name, Role: o.Role, SigningKey: base64.StdEncoding.EncodeToString(der), Scheme: o.Scheme, Decryption: o.Decryption}
	if o.DecryptionKey != nil {
		if der, err = x509.MarshalPKIXPublicKey(o.DecryptionKey); err != nil {
			return officerJSON{}, fmt.Errorf("%w: %s: %w", ErrKey, show.Text(o.Name), err)
		}
		j.DecryptionKey = base64.StdEncoding.EncodeToString(der)
	}
	return j, nil
}

func decodeOfficer(v format.Version, j officerJSON) (Officer, error) {
	o := Officer{Name: j.Name, Role: j.Role, Scheme: j.Scheme, Decryption: j.Decryption}
	if err := checkName(j.Name); err != nil {
		return o, err
	}
	switch j.Role {
	case RoleOfficer, RoleWitness, RoleAuditor:
	default:
		return o, fmt.Errorf("%s: role %.40q: use officer, witness or auditor", show.Text(j.Name), j.Role)
	}
	var err error
	if o.SigningKey, o.KeyID, err = decodeKey(j.SigningKey); err != nil {
		return o, fmt.Errorf("%s: signing key: %w", show.Text(j.Name), err)
	}
	if err := checkScheme(j.Scheme, o.SigningKey); err != nil {
		return o, fmt.Errorf("%s: signing key: %w", show.Text(j.Name), err)
	}
	if fault := weakkey.FaultAsOf(v, o.SigningKey); fault != "" {
		return o, fmt.Errorf("%s: signing key: %w: %s", show.Text(j.Name), ErrKey, fault)
	}
	if (j.DecryptionKey == "") != (j.Decryption == "") {
		return o, fmt.Errorf("%s: decryption key and its scheme go together", show.Text(j.Name))
	}
	if j.DecryptionKey == "" {
		return o, nil
	}
	if o.DecryptionKey, o.DecryptionKeyID, err = decodeKey(j.DecryptionKey); err != nil {
		return o, fmt.Errorf("%s: decryption key: %w", show.Text(j.Name), err)
	}
	if err := checkDecryption(j.Decryption, o.DecryptionKey); err != nil {
		return o, fmt.Errorf("%s: decryption key: %w", show.Text(j.Name), err)
	}
	if fault := weakkey.FaultAsOf(v, o.DecryptionKey); fault != "" {
		return o, fmt.Errorf("%s: decryption key: %w: %s", show.Text(j.Name), ErrKey, fault)
	}
	if o.DecryptionKeyID == o.KeyID {
		return o, fmt.Errorf("%s: signing and decryption key must be two keys", show.Text(j.Name))
	}
	return o, nil
}

// decodeKey reads a base64 SubjectPublicKeyInfo and insists on its one encoding, since ids are taken over it.
func decodeKey(s string) (crypto.PublicKey, string, error) {
	der, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, "", fmt.Errorf("%w: not base64", ErrKey)
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, "", fmt.Errorf("%w: not a SubjectPublicKeyInfo", ErrKey)
	}
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || !bytes.Equal(again, der) {
		return nil, "", fmt.Errorf("%w: SubjectPublicKeyInfo is not in its usual encoding", ErrKey)
	}
	return pub, Sum(der).String(), nil
}

// encode writes a document of ours: two spaces of indent, a newline at the end, no HTML escapes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("quorum: %w", err)
	}
	return b.Bytes(), nil
}

// decode reads a document of ours and checks its type.
func decode(name string, data []byte, want string, v any, got func() string) error {
	if len(data) > MaxDocument {
		return usage("%s: larger than %d bytes", name, MaxDocument)
	}
	if err := strict.JSON(name, data, v); err != nil {
		var e struct{ PayloadType string }
		if json.Unmarshal(data, &e) == nil && e.PayloadType != "" {
			return advice.New(advice.Usage, "name the "+name+" itself: this is what an officer signed, such as an enrolment or an approval", "%s: an envelope of type %.80q was given", name, e.PayloadType)
		}
		return err
	}
	if got() != want {
		return usage("%s: type is %.40q, want %q", name, got(), want)
	}
	return nil
}

func usage(format string, args ...any) error { return advice.New(advice.Usage, "", format, args...) }

func refused(hint, format string, args ...any) error {
	return advice.New(advice.Refused, hint, format, args...)
}

// parseTime reads RFC 3339 in UTC with whole seconds, and no other spelling.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UTC().Format(time.RFC3339) != s {
		return time.Time{}, fmt.Errorf("time %.40q: want RFC 3339 in UTC with whole seconds", s)
	}
	return t.UTC(), nil
}

// checkName allows names that print alike everywhere and fit in a file name.
func checkName(s string) error {
	if s == "" || len(s) > MaxName || s != strings.TrimSpace(s) {
		return fmt.Errorf("name %.80q: want 1 to %d characters", s, MaxName)
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune(" .-_'@", rune(c))) {
			return fmt.Errorf("name %q: want ASCII letters, digits, and after the first also space . - _ ' @", s)
		}
	}
	if strings.Contains(s, "  ") || strings.Contains(s, "..") {
		return fmt.Errorf("name %q: no two spaces or dots in a row", s)
	}
	return nil
}

func checkEnvironment(s string) error {
	if s == "" || len(s) > MaxName {
		return fmt.Errorf("environment %.80q: want 1 to %d characters", s, MaxName)
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '.') {
			return fmt.Errorf("environment %q: want lower-case letters, digits, and after the first also dash and dot", s)
		}
	}
	return nil
}
