package ceremony

import (
	"context"
	"io/fs"
	"time"

	"github.com/hanaper/hanaper/ceremony/calendar"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// Status is what exists after a ceremony and those before it. Everything in it is read from a folder that was verified; what
// happened to a token since then (lost, dead, stolen) no folder knows.
type Status struct {
	Environment string `json:"environment"`
	// Ceremony is the last one, Ceremonies are all, the first first.
	Ceremony   string   `json:"ceremony"`
	Ceremonies []string `json:"ceremonies"`
	Checkpoint string   `json:"checkpoint_sha256"`
	Ended      string   `json:"ended"`
	// Aborted is true if the last ceremony left no result.
	Aborted bool `json:"aborted"`
	// Authenticated is false where no anchor was given.
	Authenticated bool `json:"authenticated"`
	// Attested is false where fewer officers signed the last transcript than must agree: nobody vouches for it.
	Attested     bool           `json:"attested"`
	Roster       StatusRoster   `json:"roster"`
	Tokens       []StatusToken  `json:"tokens"`
	Keys         []StatusKey    `json:"keys"`
	Certificates []StatusCert   `json:"certificates"`
	CRLs         []StatusCRL    `json:"crls"`
	Trust        *StatusTrust   `json:"trust,omitempty"`
	Uptane       []StatusUptane `json:"uptane"`
	// Ends are the dates on which something ends, as hanaper calendar lists them, the soonest first.
	Ends []calendar.Entry `json:"ends"`
	// Problems are what officers should do something about, in plain words.
	Problems []string `json:"problems"`
	// Withheld are the shares of aborted ceremonies that no file of the folder holds and that nothing has replaced, in the order in
	// which they were made.
	Withheld []WithheldShares `json:"withheld,omitempty"`

	// last is the ceremony itself, left what a later one can take up, by name; trust and uptane are the steps that made
	// the newest versions.
	last   *verified
	left   *state
	trust  *TrustRepository
	uptane map[string]*UptaneRoot
	held   []*heldCert
	lists  []*heldCRL
	// without are the serials of tokens that people have no longer.
	without []string
}

// StatusRoster is the roster now.
type StatusRoster struct {
	SHA256    string          `json:"sha256"`
	Epoch     uint64          `json:"epoch"`
	Threshold int             `json:"threshold"`
	Officers  []StatusOfficer `json:"officers"`
}

// StatusOfficer is somebody of the roster.
type StatusOfficer struct {
	Name string `json:"name"`
	Role string `json:"role"`
	// HoldsShares is true for one with a decryption key.
	HoldsShares bool `json:"holds_shares"`
}

// StatusToken is a token that some ceremony used.
type StatusToken struct {
	Label  string `json:"label"`
	Serial string `json:"serial"`
	Model  string `json:"model"`
	// Ceremony used it last.
	Ceremony string `json:"ceremony"`
	// User and SO hold its PINs; nil where no ceremony says that officers hold it together.
	User *StatusShares `json:"user_pin,omitempty"`
	SO   *StatusShares `json:"so_pin,omitempty"`
	// Keys are those that lie in it, by their names.
	Keys []string `json:"keys"`
}

// StatusShares is a secret that officers hold together.
type StatusShares struct {
	Name      string `json:"name"`
	SHA256    string `json:"sha256"`
	Ceremony  string `json:"ceremony"`
	Threshold int    `json:"threshold"`
	// Holders of the current roster can open their shares; Gone are holders that it does not have, or not with that key.
	Holders []string `json:"holders"`
	Gone    []string `json:"gone,omitempty"`
	// Opens is true if those of the current roster are enough.
	Opens bool `json:"opens"`
	// serial is that of the token for which they were made.
	serial string
}

// StatusKey is a private key: every copy and backup of it. Keys are told apart by their public halves.
type StatusKey struct {
	// Names that scripts had for it and its copies, the first first.
	Names       []string      `json:"names"`
	Fingerprint string        `json:"spki_sha256"`
	Algorithm   hsm.Algorithm `json:"algorithm"`
	// For is what it is for, as far as it was used: the subjects of its CA certificates, or a role.
	For     []string       `json:"for"`
	Copies  []StatusCopy   `json:"copies"`
	Backups []StatusBackup `json:"backups"`
	// Destroyed are copies that were, provably.
	Destroyed []StatusCopy `json:"destroyed"`
	// State accounts for it: in a token, in a backup, destroyed, or lost.
	State string `json:"state"`
}

// The states of a key.
const (
	KeyInToken   = "in a token"
	KeyInBackup  = "in a backup only"
	KeyDestroyed = "destroyed"
	KeyLost      = "lost"
)

// StatusCopy is a key in a token.
type StatusCopy struct {
	Name     string    `json:"name"`
	Token    string    `json:"token"`
	Serial   string    `json:"serial"`
	Label    string    `json:"label"`
	Class    hsm.Class `json:"class"`
	Ceremony string    `json:"ceremony"`
	// Left is true for a key of an aborted ceremony that could not be removed.
	Left bool `json:"left_by_aborted,omitempty"`
}

// StatusBackup is a wrapped key.
type StatusBackup struct {
	Name     string       `json:"name"`
	Ceremony string       `json:"ceremony"`
	Shares   StatusShares `json:"shares"`
	// ReplacedBy is the backup that was made by wrapping this one anew: it still opens with the old shares.
	ReplacedBy string `json:"replaced_by,omitempty"`
}

// StatusCert is a certificate that the ceremonies made or took in.
type StatusCert struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	// IssuedBy is the name of the issuer's certificate; empty for a root, and where no ceremony took that in.
	IssuedBy string `json:"issued_by"`
	Serial   string `json:"serial"`
	// Kind is root, CA, cross or end entity.
	Kind string `json:"kind"`
	// Key is the state of its key; "outside" where no ceremony had it.
	Key       string    `json:"key"`
	NotAfter  time.Time `json:"not_after"`
	Revoked   bool      `json:"revoked"`
	Anchor    bool      `json:"anchor"`
	Published bool      `json:"intermediate"`
	Ceremony  string    `json:"ceremony"`
}

// StatusCRL is the newest CRL of an issuer.
type StatusCRL struct {
	Name       string    `json:"name"`
	Issuer     string    `json:"issuer"`
	Number     string    `json:"number"`
	Revoked    int       `json:"revoked"`
	NextUpdate time.Time `json:"next_update"`
	Ceremony   string    `json:"ceremony"`
	// Highest is the highest number that was used: one of an aborted ceremony counts.
	Highest string `json:"highest"`
}

// StatusTrust is the newest trust repository.
type StatusTrust struct {
	RootVersion    int64     `json:"root_version"`
	TargetsVersion int64     `json:"targets_version"`
	Expires        time.Time `json:"expires"`
	Anchors        []string  `json:"anchors"`
	Intermediates  []string  `json:"intermediates"`
	RootKeys       string    `json:"root_keys"`
	TargetsKeys    string    `json:"targets_keys"`
	Ceremony       string    `json:"ceremony"`
}

// StatusUptane is a repository's newest root.
type StatusUptane struct {
	Repository     string    `json:"repository"`
	RootVersion    int       `json:"root_version"`
	TargetsVersion int       `json:"targets_version"`
	Expires        time.Time `json:"expires"`
	RootKeys       string    `json:"root_keys"`
	Ceremony       string    `json:"ceremony"`
}

// ReadStatus verifies a finished folder as Verify does and says what exists after it. As there, the error stands beside the
// status where no anchor is given, or where fewer officers signed than must agree. name is the folder's, in Ends.
func ReadStatus(ctx context.Context, folder fs.FS, name string, a Anchors) (*Status, error) {
	v, err := replay(ctx, folder, a)
	if err != nil {
		if advice.KindOf(err) != advice.Unverified {
			err = advice.Wrap(advice.Unverified, err, advice.Hint(err))
		}
		return nil, err
	}
	if v.rehearsal {
		return nil, errRehearsed
	}
	s, err := statusOf(v, name)
	if err != nil {
		return nil, err
	}
	attested := v.attested()
	s.Attested = attested == nil
	if s.Authenticated = a.given(); !s.Authenticated {
		return s, ErrNotAuthenticated
	}
	return s, attested
}
