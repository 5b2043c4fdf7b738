package ceremony

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// restore brings the keys of a dead token into a new one.
func (d *draft) restore() error {
	name, err := d.needed("token", "--token")
	if err != nil {
		return err
	}
	dead := d.s.tokenNamed(name)
	if dead == nil {
		var can []string
		for _, t := range d.s.Tokens {
			can = append(can, t.Label)
		}
		return advice.New(advice.Usage, "name one of "+listed(can), "no ceremony used a token %s", show.Text(name))
	}
	label := dead.Label
	for slices.ContainsFunc(d.s.Tokens, func(t StatusToken) bool { return t.Label == label }) {
		label = after(label, " ")
	}
	spare := d.blank(label)
	d.step("init-token", &InitToken{Token: spare}, "The new token must be blank. Its first PINs are typed by those who keep them, until the shares replace them.")
	for _, p := range dead.pins() {
		d.step("hold-secret", &HoldSecret{Name: d.name(spare + "-" + string(p.purpose)), Token: spare, Purpose: string(p.purpose), Threshold: fits(p.shares.Threshold, d.s.last.roster)})
	}
	restored := 0
	for i := range d.s.Keys {
		k := &d.s.Keys[i]
		at := slices.IndexFunc(k.Copies, func(c StatusCopy) bool { return c.Serial == dead.Serial && !c.Left })
		if at < 0 || slices.ContainsFunc(k.Copies, func(c StatusCopy) bool { return c.Serial != dead.Serial && !c.Left }) {
			continue
		}
		done, err := d.restoreKey(k, k.Copies[at], spare)
		if err != nil {
			return err
		}
		restored += done
	}
	if restored == 0 {
		return advice.New(advice.Refused, "begin new keys: for a Fleet Root see the runbook", "of no key that was in token %s there is a backup that the officers of today can open", show.Text(dead.Label))
	}
	return nil
}

func (d *draft) restoreKey(k *StatusKey, was StatusCopy, spare string) (done int, err error) {
	shares := d.wrapFor(k)
	if shares == nil {
		d.comment(fmt.Sprintf("LOST: key %s (%s). No backup of it can be opened. What it signed stays good until it expires; begin a new key in its place.", was.Name, strings.Join(k.For, ", ")))
		return 0, nil
	}
	i := len(k.Backups) - 1
	for k.Backups[i].Shares.SHA256 != shares.SHA256 {
		i--
	}
	input, err := d.pinEarlier(shares.Name, shares.SHA256)
	if err != nil {
		return 0, err
	}
	name := d.next(k.Names[0])
	d.step("restore-key", &RestoreKey{Name: name, Backup: k.Backups[i].Name, Token: spare, Label: was.Label, Shares: input, Class: string(hsm.RestoredBackup)},
		fmt.Sprintf("%s: %s.", k.Names[0], strings.Join(k.For, ", ")))
	d.step("backup-key", &BackupKey{Name: d.next(k.Backups[i].Name), Key: name, Shares: input})
	return 1, nil
}
