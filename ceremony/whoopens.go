package ceremony

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// OpenedBy says who of a roster can open a backup.
type OpenedBy struct {
	Backup string `json:"backup"`
	// Key is the name of the key that was generated.
	Key       string `json:"key"`
	Threshold int    `json:"threshold"`
	// Holders of its shares; Living are those of the roster who have the decryption key that their share is for.
	Holders []string `json:"holders"`
	Living  []string `json:"living"`
	// ReplacedBy is the backup that was made by wrapping this one anew.
	ReplacedBy string `json:"replaced_by,omitempty"`
}

// Opens says whether those of the roster are enough.
func (o OpenedBy) Opens() bool { return len(o.Living) >= o.Threshold }

// Warning is what officers should do something about; empty where there is nothing.
func (o OpenedBy) Warning() string {
	gone := len(o.Holders) - len(o.Living)
	switch {
	case o.ReplacedBy != "" && gone >= o.Threshold:
		return fmt.Sprintf("backup %s, which %s replaced, can be opened by holders who are no longer in the roster, if they have a copy of it", show.Text(o.Backup), show.Text(o.ReplacedBy))
	case o.ReplacedBy != "":
		return ""
	case !o.Opens():
		return fmt.Sprintf("backup %s of key %s opens with %d shares, and of their holders only %d are in the roster with the key of their share: back the key up anew while it is in a token", show.Text(o.Backup), show.Text(o.Key), o.Threshold, len(o.Living))
	case gone > 0:
		return fmt.Sprintf("%d of the %d holders of backup %s of key %s are no longer in the roster: wrap it anew (rewrap-backup) while %d of the others are there", gone, len(o.Holders), show.Text(o.Backup), show.Text(o.Key), o.Threshold)
	}
	return ""
}

func openedBy(all map[string]*backup, r *quorum.Roster) []OpenedBy {
	list := []OpenedBy{}
	for _, n := range sortedKeys(all) {
		b := all[n]
		list = append(list, OpenedBy{Backup: n, Key: b.key.original(), Threshold: b.shares.Threshold(), Holders: b.shares.Holders(), Living: b.shares.Living(r), ReplacedBy: replacement(all, n)})
	}
	return list
}

// Backups are those that there are when the script was performed, those of earlier ceremonies among them.
func (p *Plan) Backups() []OpenedBy {
	return openedBy(p.script.allBackups(p.state), p.roster)
}

// Backups are those that the ceremonies left, and who of a roster, which may be a newer one, can open them; nil is the roster of the
// last ceremony.
func (s *Status) Backups(r *quorum.Roster) []OpenedBy {
	if r == nil {
		r = s.last.roster
	}
	return openedBy(s.left.backups, r)
}

// Within says whether the ceremonies of this status are the first ones of another's.
func (s *Status) Within(o *Status) bool {
	return s.Environment == o.Environment && len(s.Ceremonies) <= len(o.Ceremonies) && hexSHA256(o.last.chain()[len(s.Ceremonies)-1].checkpoint) == s.Checkpoint
}

// Backups verifies the folder of a ceremony as Verify does, and says who of a roster, which may be a newer one, can open the backups
// that it and the ceremonies before it left. Whose folder it is nothing says.
func Backups(ctx context.Context, folder fs.FS, r *quorum.Roster) ([]OpenedBy, error) {
	v, err := replay(ctx, folder, Anchors{})
	if err != nil {
		return nil, err
	}
	return openedBy((&earlier{verified: v}).left().backups, r), nil
}
