package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/hanaper/hanaper/internal/show"
)

// Purpose is what a shared secret is for.
type Purpose string

const (
	// PurposeUser: the user PIN of a token.
	PurposeUser Purpose = "user"
	// PurposeSO: the security officer PIN of a token, under a quorum of its own.
	PurposeSO Purpose = "so"
	// PurposeWrap: the wrapping key of a token's backups.
	PurposeWrap Purpose = "wrap"
)

// The group of the scalars: ristretto255 (RFC 9496), whose arithmetic in circl takes the same time for every secret.
var sharing = group.Ristretto255

const groupName = "ristretto255"

// about is what a secret is for; it is bound into every share's encryption and into everything derived.
type about struct {
	environment string
	purpose     Purpose
	serial      string
	epoch       uint64
}

// encode appends environment, purpose, serial (each with its length in 2 bytes) and epoch (8 bytes), big-endian.
func (a about) encode(b []byte) []byte {
	for _, s := range []string{a.environment, string(a.purpose), a.serial} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint64(b, a.epoch)
}

func (a about) check() error {
	if err := checkEnvironment(a.environment); err != nil {
		return err
	}
	switch a.purpose {
	case PurposeUser, PurposeSO, PurposeWrap:
	default:
		return fmt.Errorf("purpose %.40q: use user, so or wrap", a.purpose)
	}
	if a.serial == "" || len(a.serial) > MaxName || strings.TrimSpace(a.serial) != a.serial {
		return fmt.Errorf("token serial %.80q: want 1 to %d characters", a.serial, MaxName)
	}
	for i := range len(a.serial) {
		if a.serial[i] < ' ' || a.serial[i] > '~' {
			return fmt.Errorf("token serial %q: want printable ASCII", a.serial)
		}
	}
	if a.epoch == 0 {
		return errors.New("epoch 0: epochs count from 1")
	}
	return nil
}

var (
	// ErrShare means a share that does not fit the commitments: it was changed, or belongs to another secret.
	ErrShare = errors.New("quorum: share is not genuine")
	// ErrTooFew means fewer shares than the threshold.
	ErrTooFew = errors.New("quorum: not enough shares")
)

// ShareConfig is what a secret is split for.
type ShareConfig struct {
	Purpose     Purpose
	TokenSerial string
	// Threshold is how many shares open the secret; 0 means the roster's.
	Threshold int
	// Holders are the names of the officers who get a share each; nil means every officer that has a decryption key.
	Holders []string
	// Previous are the shares to be replaced, whose epoch is counted on; nil for the first ones of this token and purpose.
	// Their secret stays what it was: people who hold enough of them can still open what the new one did not change.
	Previous *Shares
}

// Split draws a new secret and splits it among officers of a trusted roster. Store the shares, have their owners open
// them (Shares.Open), and only then set what is derived from the secret; wipe the secret in any case. The randomness is
// the operating system's.
func Split(c ShareConfig, r *Roster) (*Shares, *Secret, error) {
	holders, err := holdersOf(c, r)
	if err != nil {
		return nil, nil, err
	}
	s := &Shares{about: about{r.environment, c.Purpose, c.TokenSerial, 1}, roster: r.digest, threshold: c.Threshold, n: len(holders)}
	if p := c.Previous; p != nil {
		if p.about.environment != r.environment || p.about.purpose != c.Purpose || p.about.serial != c.TokenSerial {
			return nil, nil, usage("shares: the earlier ones are of %s, token %s, for %s", show.Text(p.about.environment), show.Text(p.about.serial), show.Text(p.about.purpose))
		}
		s.about.epoch = p.about.epoch + 1
	}
	if s.threshold == 0 {
		s.threshold = r.threshold
	}
	if err := s.about.check(); err != nil {
		return nil, nil, usage("shares: %w", err)
	}
	if s.threshold < 1 || s.threshold > len(holders) {
		return nil, nil, usage("shares: %d must be put together, and %d officers of the roster get one: those who enrolled with a decryption key (`hanaper officer enroll --decryption-key`)", s.threshold, len(holders))
	}
	scalar := sharing.RandomNonZeroScalar(nil)
	split := secretsharing.New(nil, uint(s.threshold-1), scalar)
	s.commitments = split.CommitSecret()
	if len(s.commitments) != s.threshold {
		return nil, nil, errors.New("quorum: unusable random polynomial; try again")
	}
	for i, share := range split.Share(uint(len(holders))) {
		s.entries = append(s.entries, entry{index: i + 1, holder: holders[i]})
		if err := s.seal(i, share.Value); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", show.Text(holders[i].Name), err)
		}
		share.Value.SetUint64(0)
	}
	if err := s.finish(); err != nil {
		return nil, nil, err
	}
	return s, &Secret{scalar, s.about}, nil
}

func holdersOf(c ShareConfig, r *Roster) ([]Officer, error) {
	var out []Officer
	for _, o := range r.officers {
		if c.Holders == nil && o.Role == RoleOfficer && o.DecryptionKey != nil {
			out = append(out, o)
		}
	}
	for i, name := range c.Holders {
		o, ok := r.Named(name)
		switch {
		case !ok:
			return nil, usage("shares: nobody in the roster is named %q", name)
		case o.Role != RoleOfficer:
			return nil, usage("shares: %s has the role %s and cannot hold one", show.Text(o.Name), show.Text(o.Role))
		case o.DecryptionKey == nil:
			return nil, usage("shares: %s has no decryption key", show.Text(o.Name))
		case slices.ContainsFunc(c.Holders[:i], func(n string) bool { return strings.EqualFold(n, name) }):
			return nil, usage("shares: %s stands twice", show.Text(o.Name))
		}
		out = append(out, o)
	}
	return out, nil
}

func (s *Shares) seal(i int, value group.Scalar) error {
	e := &s.entries[i]
	plaintext, err := value.MarshalBinary()
	if err != nil {
		return fmt.Errorf("quorum: %w", err)
	}
	defer clear(plaintext)
	e.sealed, err = seal(e.holder.Decryption, e.holder.DecryptionKey, s.info(e), plaintext)
	return err
}

// Share is one officer's share, decrypted and found to fit the commitments.
type Share struct {
	index  int
	holder string
	value  group.Scalar
	of     Digest
}

// Holder is the name of its owner.
func (s *Share) Holder() string { return s.holder }

// String keeps the share out of logs.
func (s *Share) String() string { return fmt.Sprintf("quorum.Share(%s, hidden)", s.holder) }

// GoString keeps the share out of logs.
func (s *Share) GoString() string { return s.String() }

// Wipe overwrites the share, which cannot be used afterwards.
func (s *Share) Wipe() {
	if s.value != nil {
		s.value.SetUint64(0)
		s.value = nil
	}
}

// Open decrypts the share that was encrypted to this key and checks it against the commitments, so that a share changed
// or swapped is refused here, with its owner's name, before anything is tried on a token.
func (s *Shares) Open(key Decrypter) (*Share, error) {
	pub, err := publicOf(key)
	if err != nil {
		return nil, err
	}
	id, err := KeyID(pub)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.entries, func(e entry) bool { return e.holder.DecryptionKeyID == id })
	if i < 0 {
		return nil, refused("use the decryption key that was enrolled", "shares of token %s: none is encrypted to key %.16s", show.Text(s.about.serial), id)
	}
	e := &s.entries[i]
	fail := func(err error) (*Share, error) {
		return nil, unverified("have the shares renewed, or restore the document from a copy", "share of %s: %w", show.Text(e.holder.Name), err)
	}
	if err := checkDecryption(e.holder.Decryption, pub); err != nil {
		return fail(err)
	}
	plaintext, err := unseal(e.holder.Decryption, key, s.info(e), e.sealed)
	if err != nil {
		return fail(err)
	}
	defer clear(plaintext)
	value := sharing.NewScalar()
	if err := value.UnmarshalBinary(plaintext); err != nil {
		return fail(ErrShare)
	}
	share := &Share{e.index, e.holder.Name, value, s.digest}
	if !s.genuine(share) {
		share.Wipe()
		return fail(ErrShare)
	}
	return share, nil
}

// genuine checks a share against the commitments (Feldman).
func (s *Shares) genuine(x *Share) bool {
	id := sharing.NewScalar().SetUint64(uint64(x.index))
	return secretsharing.Verify(uint(s.threshold-1), secretsharing.Share{ID: id, Value: x.value}, s.commitments)
}

// Combine puts the secret together from shares of this document: at least the threshold, of different officers, each
// checked again, and the result checked against the commitment before it is returned. The caller wipes all of them.
func (s *Shares) Combine(shares ...*Share) (*Secret, error) {
	seen := map[int]bool{}
	var in []secretsharing.Share
	for _, x := range shares {
		switch {
		case x == nil || x.value == nil:
			return nil, ErrWiped
		case x.of != s.digest:
			return nil, unverified("", "share of %s: %w: it is of other shares", show.Text(x.holder), ErrShare)
		case seen[x.index]:
			return nil, refused("", "share of %s: given twice", show.Text(x.holder))
		case !s.genuine(x):
			return nil, unverified("", "share of %s: %w", show.Text(x.holder), ErrShare)
		}
		seen[x.index] = true
		in = append(in, secretsharing.Share{ID: sharing.NewScalar().SetUint64(uint64(x.index)), Value: x.value})
	}
	if len(in) < s.threshold {
		return nil, refused("have more officers open theirs", "%w: %d of %d", ErrTooFew, len(in), s.threshold)
	}
	scalar, err := secretsharing.Recover(uint(s.threshold-1), in)
	if err != nil {
		return nil, fmt.Errorf("quorum: %w", err)
	}
	if !sharing.NewElement().MulGen(scalar).IsEqual(s.commitments[0]) {
		scalar.SetUint64(0)
		return nil, unverified("", "quorum: the secret put together is not the one that was split")
	}
	return &Secret{scalar, s.about}, nil
}
