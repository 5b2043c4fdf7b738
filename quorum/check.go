package quorum

import (
	"bytes"
	"crypto"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// CheckPayload is the payload type of a card check.
const CheckPayload = "application/vnd.hanaper.check+json"

const checkType = "hanaper-check/1"

type checkJSON struct {
	Type     string `json:"type"`
	Roster   Digest `json:"roster"`
	Officer  string `json:"officer"`
	At       string `json:"at"`
	Decrypts bool   `json:"decrypts"`
}

// CheckCard proves that somebody of the roster can still use their keys, and returns a signed record of it: a test
// signature, and a test decryption where the roster lists a decryption key (decrypt may be nil where it does not). at is
// the asserted time.
func CheckCard(r *Roster, sign crypto.Signer, decrypt Decrypter, at time.Time) ([]byte, error) {
	s, o, err := r.Signer(sign)
	if err != nil {
		return nil, err
	}
	j := checkJSON{Type: checkType, Roster: r.digest, Officer: o.Name, At: at.UTC().Format(time.RFC3339), Decrypts: decrypt != nil}
	if o.DecryptionKey != nil {
		if decrypt == nil {
			return nil, usage("check of %s: the roster lists a decryption key, which must be checked too", show.Text(o.Name))
		}
		pub, err := publicOf(decrypt)
		if err != nil {
			return nil, err
		}
		if keyID(pub) != o.DecryptionKeyID {
			return nil, refused("use the decryption key that was enrolled", "check of %s: key %.16s is not the decryption key in the roster", show.Text(o.Name), keyID(pub))
		}
		if err := ProbeDecryption(o.Decryption, decrypt); err != nil {
			return nil, err
		}
	} else if decrypt != nil {
		return nil, usage("check of %s: the roster lists no decryption key", show.Text(o.Name))
	}
	payload, err := encode(j)
	if err != nil {
		return nil, err
	}
	return SignDSSE(CheckPayload, payload, s)
}

// Card is what is known of somebody's keys.
type Card struct {
	Officer Officer
	// Checked is the time of the last check; zero if there was none.
	Checked time.Time
	// Live says that the last check is recent enough.
	Live bool
}

// Cards reads records of checks against a trusted roster and says of everybody whether their keys were checked within
// maxAge before now. A record that is signed by another, of another roster, or dated after now, is refused.
func Cards(r *Roster, checks [][]byte, now time.Time, maxAge time.Duration) ([]Card, error) {
	last := map[string]time.Time{}
	for i, env := range checks {
		payload, signers, err := VerifyDSSE(env, CheckPayload, r, 0)
		if err != nil {
			return nil, unverified("", "check %d: %w", i+1, err)
		}
		var j checkJSON
		if err := decode("check", payload, checkType, &j, func() string { return j.Type }); err != nil {
			return nil, err
		}
		at, err := parseTime(j.At)
		if again, e := encode(j); err != nil || e != nil || !bytes.Equal(again, payload) {
			return nil, unverified("", "check %d: not in its canonical form", i+1)
		}
		o := signers[0]
		switch {
		case len(signers) != 1 || o.Name != j.Officer || j.Decrypts != (o.DecryptionKey != nil):
			return nil, unverified("", "check %d: not of the one who signed it", i+1)
		case j.Roster != r.digest:
			return nil, unverified("have the card checked against this roster", "check %d: of %s, by roster %s", i+1, show.Text(o.Name), j.Roster)
		case at.After(now):
			return nil, unverified("", "check %d: of %s, dated %s, which is still to come", i+1, show.Text(o.Name), show.Text(j.At))
		}
		if at.After(last[o.KeyID]) {
			last[o.KeyID] = at
		}
	}
	var out []Card
	for _, o := range r.officers {
		at, ok := last[o.KeyID]
		out = append(out, Card{o, at, ok && now.Sub(at) <= maxAge})
	}
	return out, nil
}

// Spare is how many officers with live cards there are beyond the threshold; below zero no quorum can be formed.
func (r *Roster) Spare(cards []Card) int {
	n := -r.threshold
	for _, c := range cards {
		if c.Live && c.Officer.Role == RoleOfficer {
			n++
		}
	}
	return n
}
