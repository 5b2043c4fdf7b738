package ceremony

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

func (d *draft) officers() error {
	// A turnover that was aborted goes on with the roster that it began with.
	goesOn := d.n.Officers == nil && len(d.n.Approvals) == 0 && d.s.leaversHold()
	if !goesOn && (d.n.Officers == nil || len(d.n.Approvals) == 0) {
		return advice.New(advice.Usage, "give the new roster with --officers, and the approvals of the old one's officers with --approval, one for each", "which officers?")
	}
	next := d.s.last.roster
	if !goesOn {
		if sha256.Sum256(d.n.Officers.Data) == next.Digest() {
			return advice.New(advice.Usage, "to go on with a turnover that was aborted, leave --officers and --approval out; for other officers, make a roster that follows this one: hanaper roster new --previous", "%s is the roster of today", show.Text(d.n.Officers.File))
		}
		var err error
		if next, err = next.Succeed(d.n.Officers.Data, datas(d.n.Approvals)); err != nil {
			return err
		}
	}
	wrap := ""
	for _, t := range d.s.Tokens {
		if len(t.Keys) == 0 || t.User == nil && t.SO == nil || slices.Contains(d.s.without, t.Serial) {
			continue
		}
		if !slices.ContainsFunc(d.s.Keys, func(k StatusKey) bool { c := k.live(d.s); return c != nil && c.Serial == t.Serial }) {
			d.comment(fmt.Sprintf("The keys of %s were used in another token since. If it is dead, or destroyed, write this draft again with --without %s.", t.Label, t.Serial))
		}
		token, err := d.token(t.Serial)
		if err != nil {
			return err
		}
		wrap = token
		for _, p := range t.pins() {
			if goesOn && len(p.shares.Gone) == 0 {
				continue
			}
			input, err := d.pinEarlier(p.shares.Name, p.shares.SHA256)
			if err != nil {
				return err
			}
			d.step("hold-secret", &HoldSecret{Name: d.next(p.shares.Name), Token: token, Purpose: string(p.purpose), Threshold: fits(p.shares.Threshold, next), Previous: input},
				fmt.Sprintf("The %s PIN of %s is set anew, and held by all officers of the new roster who have a decryption key.", map[quorum.Purpose]string{quorum.PurposeUser: "user", quorum.PurposeSO: "SO"}[p.purpose], t.Label))
		}
	}
	return d.rewrap(wrap, next, goesOn)
}

// leaversHold says whether somebody who is not in the roster holds a share of what is used today.
func (s *Status) leaversHold() bool {
	gone := func(d *StatusShares) bool { return d != nil && len(d.Gone) > 0 }
	return slices.ContainsFunc(s.Tokens, func(t StatusToken) bool { return len(t.Keys) > 0 && (gone(t.User) || gone(t.SO)) }) ||
		slices.ContainsFunc(s.Keys, func(k StatusKey) bool {
			return k.State != KeyDestroyed && slices.ContainsFunc(k.Backups, func(b StatusBackup) bool { return b.ReplacedBy == "" && gone(&b.Shares) })
		})
}

// fits is a threshold that the holders of a roster can meet.
func fits(threshold int, r *quorum.Roster) int {
	holders := 0
	for _, o := range r.Officers() {
		if o.Role == quorum.RoleOfficer && o.DecryptionKey != nil {
			holders++
		}
	}
	return min(threshold, holders)
}

func datas(files []NamedFile) [][]byte {
	var list [][]byte
	for _, f := range files {
		list = append(list, f.Data)
	}
	return list
}

// rewrap shares the wrapping keys of backups anew and wraps every backup that opens with the old ones.
func (d *draft) rewrap(token string, next *quorum.Roster, leavers bool) error {
	renewed := map[string]string{}
	for i := range d.s.Keys {
		k := &d.s.Keys[i]
		for _, b := range slices.Clone(k.Backups) {
			if b.ReplacedBy != "" || k.State == KeyDestroyed || leavers && len(b.Shares.Gone) == 0 {
				continue
			}
			if !b.Shares.Opens {
				d.comment(fmt.Sprintf("Backup %s of key %s cannot be opened any more: back the key up anew where it is of a class that can be.", b.Name, k.Names[0]))
				continue
			}
			if token == "" {
				return advice.New(advice.Refused, "write the steps by hand: docs/spec/script.md", "no token with keys has PINs that officers hold together, and backups are wrapped anew in a token")
			}
			old, err := d.pinEarlier(b.Shares.Name, b.Shares.SHA256)
			if err != nil {
				return err
			}
			shares := renewed[b.Shares.SHA256]
			if shares == "" {
				shares = d.next(b.Shares.Name)
				renewed[b.Shares.SHA256] = shares
				// Shares replace those of the same token only; a dead token's are followed by the first ones of another.
				hold := &HoldSecret{Name: shares, Token: token, Purpose: string(quorum.PurposeWrap), Threshold: fits(b.Shares.Threshold, next)}
				if own := d.tokens[b.Shares.serial]; own != "" {
					hold.Token, hold.Previous = own, old
				}
				d.step("hold-secret", hold,
					"A new wrapping key for backups. The holders of the old shares open each backup once more, and it is wrapped anew.")
			}
			d.step("rewrap-backup", &RewrapBackup{Name: d.next(b.Name), Backup: b.Name, Shares: old, NewShares: shares, Token: token})
		}
	}
	return nil
}
