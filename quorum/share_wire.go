package quorum

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"

	"github.com/cloudflare/circl/group"

	"github.com/hanaper/hanaper/internal/show"
)

const sharesType = "hanaper-shares/1"

// Shares is the document of a shared secret: commitments, and a share encrypted to each holder. It is not secret, but it
// must be the right one: whoever can replace it can make a login fail and cost a PIN try, so a script pins its digest.
type Shares struct {
	about     about
	roster    Digest
	threshold int
	// n is the number of shares; entries has fewer while they are made.
	n           int
	commitments []group.Element
	entries     []entry
	data        []byte
	digest      Digest
}

type entry struct {
	index  int
	holder Officer
	sealed sealed
}

type sharesJSON struct {
	Type        string      `json:"type"`
	Environment string      `json:"environment"`
	Purpose     Purpose     `json:"purpose"`
	TokenSerial string      `json:"token_serial"`
	Epoch       uint64      `json:"epoch"`
	Roster      Digest      `json:"roster"`
	Threshold   int         `json:"threshold"`
	Group       string      `json:"group"`
	Commitments []string    `json:"commitments"`
	Shares      []shareJSON `json:"shares"`
}

type shareJSON struct {
	Index        int        `json:"index"`
	Officer      string     `json:"officer"`
	Key          string     `json:"key"`
	Decryption   Decryption `json:"decryption"`
	Encapsulated string     `json:"encapsulated"`
	Ciphertext   string     `json:"ciphertext"`
}

// Environment is the environment of the token.
func (s *Shares) Environment() string { return s.about.environment }

// Purpose is what the secret is for.
func (s *Shares) Purpose() Purpose { return s.about.purpose }

// TokenSerial is the serial of the token; compare it before a PIN is derived for one.
func (s *Shares) TokenSerial() string { return s.about.serial }

// Epoch counts the secrets of a token and purpose, from 1.
func (s *Shares) Epoch() uint64 { return s.about.epoch }

// Roster is the digest of the roster whose officers hold the shares.
func (s *Shares) Roster() Digest { return s.roster }

// Threshold is how many shares open the secret.
func (s *Shares) Threshold() int { return s.threshold }

// Holders are the names of those who hold a share each.
func (s *Shares) Holders() []string {
	var out []string
	for _, e := range s.entries {
		out = append(out, e.holder.Name)
	}
	return out
}

// Living are the names of the holders who can open their share with the decryption key that the roster has of them: officers of it, with
// the key that the share is encrypted to. Somebody of the same name with another key is not among them.
func (s *Shares) Living(r *Roster) []string {
	out := []string{}
	for _, e := range s.entries {
		if o, ok := r.Named(e.holder.Name); ok && o.Name == e.holder.Name && o.Role == RoleOfficer && o.DecryptionKeyID == e.holder.DecryptionKeyID {
			out = append(out, e.holder.Name)
		}
	}
	return out
}

// Data is the document, byte for byte.
func (s *Shares) Data() []byte { return bytes.Clone(s.data) }

// Digest is the SHA-256 of the document's bytes.
func (s *Shares) Digest() Digest { return s.digest }

// info is what a share's encryption is bound to: a label, what the secret is for, threshold, index and number of shares (4
// bytes each), the SHA-256 of the holder's decryption key and of the commitments.
func (s *Shares) info(e *entry) []byte {
	b := s.about.encode([]byte("hanaper share v1\x00"))
	for _, n := range []int{s.threshold, e.index, s.n} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	key, _ := hex.DecodeString(e.holder.DecryptionKeyID)
	b = append(b, key...)
	var all []byte
	for _, c := range s.commitments {
		one, err := c.MarshalBinaryCompress()
		if err != nil {
			return nil // cannot be: every element came from this encoding or from the group
		}
		all = append(all, one...)
	}
	sum := Sum(all)
	return append(b, sum[:]...)
}

func (s *Shares) finish() error {
	j := sharesJSON{Type: sharesType, Environment: s.about.environment, Purpose: s.about.purpose, TokenSerial: s.about.serial,
		Epoch: s.about.epoch, Roster: s.roster, Threshold: s.threshold, Group: groupName}
	b64 := base64.StdEncoding.EncodeToString
	for _, c := range s.commitments {
		data, err := c.MarshalBinaryCompress()
		if err != nil {
			return err
		}
		j.Commitments = append(j.Commitments, b64(data))
	}
	for _, e := range s.entries {
		j.Shares = append(j.Shares, shareJSON{e.index, e.holder.Name, e.holder.DecryptionKeyID, e.holder.Decryption,
			b64(e.sealed.encapsulated), b64(e.sealed.ciphertext)})
	}
	var err error
	if s.data, err = encode(j); err != nil {
		return err
	}
	s.digest = Sum(s.data)
	return nil
}

// ParseShares reads a share document. The result is well formed; whether it is the right one, its digest says.
func ParseShares(data []byte) (*Shares, error) {
	var j sharesJSON
	if err := decode("shares", data, sharesType, &j, func() string { return j.Type }); err != nil {
		return nil, err
	}
	s := &Shares{about: about{j.Environment, j.Purpose, j.TokenSerial, j.Epoch}, roster: j.Roster, threshold: j.Threshold,
		n: len(j.Shares), data: bytes.Clone(data), digest: Sum(data)}
	if err := s.about.check(); err != nil {
		return nil, usage("shares: %w", err)
	}
	if j.Group != groupName {
		return nil, usage("shares: group %.40q, want %q", j.Group, groupName)
	}
	if len(j.Shares) > MaxOfficers || s.threshold < 1 || s.threshold > len(j.Shares) || len(j.Commitments) != s.threshold {
		return nil, usage("shares: threshold %d, %d commitments and %d shares do not go together", s.threshold, len(j.Commitments), len(j.Shares))
	}
	for i, text := range j.Commitments {
		c, err := decodeElement(text)
		if err != nil {
			return nil, usage("shares: commitment %d is not an element of the group in its one encoding", i+1)
		}
		s.commitments = append(s.commitments, c)
	}
	if s.commitments[0].IsIdentity() {
		return nil, usage("shares: the secret committed to is zero")
	}
	names, keys := map[string]bool{}, map[string]bool{}
	for i, x := range j.Shares {
		e, err := decodeShare(x)
		if err != nil {
			return nil, usage("shares: share %d: %w", i+1, err)
		}
		if e.index != i+1 || names[x.Officer] || keys[x.Key] {
			return nil, usage("shares: share %d: indices count from 1, and every officer and key stands once", i+1)
		}
		names[x.Officer], keys[x.Key] = true, true
		s.entries = append(s.entries, e)
	}
	if again, err := encode(j); err != nil || !bytes.Equal(again, data) {
		return nil, usage("shares: not in their canonical form")
	}
	return s, nil
}

func decodeElement(text string) (group.Element, error) {
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, err
	}
	if len(data) != int(sharing.Params().CompressedElementLength) {
		return nil, ErrShare
	}
	c := sharing.NewElement()
	if err := c.UnmarshalBinary(data); err != nil {
		return nil, err
	}
	if again, err := c.MarshalBinaryCompress(); err != nil || !bytes.Equal(again, data) {
		return nil, ErrShare
	}
	return c, nil
}

// Sizes of what a share's encryption makes.
const (
	scalarSize = 32
	tagSize    = 16
	nonceSizeG = 12
)

func decodeShare(x shareJSON) (entry, error) {
	e := entry{index: x.Index, holder: Officer{Name: x.Officer, Role: RoleOfficer, DecryptionKeyID: x.Key, Decryption: x.Decryption}}
	if err := checkName(x.Officer); err != nil {
		return e, err
	}
	if _, err := ParseDigest(x.Key); err != nil {
		return e, err
	}
	var err error
	if e.sealed.encapsulated, err = base64.StdEncoding.Strict().DecodeString(x.Encapsulated); err != nil {
		return e, ErrShare
	}
	if e.sealed.ciphertext, err = base64.StdEncoding.Strict().DecodeString(x.Ciphertext); err != nil {
		return e, ErrShare
	}
	enc, ct := len(e.sealed.encapsulated), len(e.sealed.ciphertext)
	fits := false
	switch x.Decryption {
	case HPKEP256:
		fits = enc == 65 && ct == scalarSize+tagSize
	case HPKEP384:
		fits = enc == 97 && ct == scalarSize+tagSize
	case OAEPSHA256, OAEPSHA1:
		fits = enc >= minRSA/8 && enc <= maxRSA/8 && ct == nonceSizeG+scalarSize+tagSize
	}
	if !fits {
		return e, ErrShare
	}
	return e, nil
}

// CheckRoster says whether the shares were made for this roster: its digest, and of every holder the name, the decryption
// key and the scheme. Shares made for an earlier roster still open; renew them when an officer is replaced.
func (s *Shares) CheckRoster(r *Roster) error {
	if s.roster != r.digest || s.about.environment != r.environment {
		return unverified("renew the shares for this roster", "shares of token %s are of roster %s, not %s", show.Text(s.about.serial), s.roster, r.digest)
	}
	for _, e := range s.entries {
		o, ok := r.Named(e.holder.Name)
		if !ok || o.Name != e.holder.Name || o.DecryptionKeyID != e.holder.DecryptionKeyID || o.Decryption != e.holder.Decryption || o.Role != RoleOfficer {
			return unverified("restore the document from a copy", "share of %s: the roster knows no such holder and key", show.Text(e.holder.Name))
		}
	}
	return nil
}
