package ceremony

import (
	"fmt"
	"maps"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// RewrapBackup opens a backup with the shares of its day and wraps the key anew under other ones: the officers who hold the old
// shares hand it over to those who hold the new. The key is in a token meanwhile, as one of class restored-backup, and is destroyed
// there at the end of the step.
//
// The old wrapped key is not undone by it. It stands in transcripts and folders of which there are copies, and whoever has one and
// enough of the old shares can open it. So the decryption keys of those who leave are destroyed. Those who stay mostly hold their new share with
// the same decryption key, and must not destroy it.
type RewrapBackup struct {
	// Name of the new backup.
	Name string `yaml:"name"`
	// Backup of this ceremony or an earlier one, and the Shares that it was made with.
	Backup string `yaml:"backup"`
	Shares string `yaml:"shares"`
	// NewShares of purpose wrap: of a step, or an input.
	NewShares string `yaml:"new_shares"`
	// Token in which the key is for the time of the step.
	Token string `yaml:"token"`
}

// The three acts, by the steps that are made for them.
func (w *RewrapBackup) restore() *RestoreKey {
	return &RestoreKey{Name: w.unwrapped(), Backup: w.Backup, Token: w.Token, Shares: w.Shares, Class: string(hsm.RestoredBackup)}
}
func (w *RewrapBackup) backUp() *BackupKey {
	return &BackupKey{Name: w.Name, Key: w.unwrapped(), Shares: w.NewShares}
}
func (w *RewrapBackup) destroy() *DestroyKey { return &DestroyKey{Key: w.unwrapped()} }

// unwrapped names the key for the time of the step.
func (w *RewrapBackup) unwrapped() string { return w.Name + unwrappedSuffix }

const unwrappedSuffix = ".unwrapped"

func (w *RewrapBackup) people() people {
	return people{act: "The security officer of the token and the holders of the old and of the new shares put in their cards when asked; at the end the administrator types Yes" + watch}
}

func (w *RewrapBackup) needs(p *Plan) []need {
	n := w.restore().needs(p)
	n[0].able = ableToWrap(p.state.backups[w.Name].key.algorithm)
	return n
}

func (w *RewrapBackup) left(o *leftover, own []entry) { o.leaves(own) }

func (w *RewrapBackup) describe(s *Session) string {
	of := ""
	if b, _ := s.backup(w.Backup); b != nil {
		of = ", of " + b.key.standsFor() + ","
	}
	return fmt.Sprintf("wrap the backup %q%s anew as %q: unwrap it with shares %q into token %q, prove it by its public key and a test signature, wrap it with shares %q, and DESTROY the unwrapped key",
		w.Backup, of, w.Name, w.Shares, w.Token, w.NewShares)
}

func (w *RewrapBackup) perform(s *Session) error {
	if err := s.claimNew(w.Name); err != nil {
		return err
	}
	if len(w.unwrapped()) > 64 {
		return malformed("name %q: it may have 54 characters at most", w.Name)
	}
	b, _ := s.backup(w.Backup)
	if b == nil {
		return refuse(RuleReference, "there is no backup %q at this step", w.Backup)
	}
	shares, err := s.shares(w.NewShares, quorum.PurposeWrap)
	if err != nil {
		return err
	}
	if shares.Digest() == b.shares.Digest() {
		return refuse(RuleRewrap, "backup %q opens with the shares %q already", w.Backup, w.NewShares)
	}
	if err := w.restore().perform(s); err != nil {
		return err
	}
	if err := w.backUp().perform(s); err != nil {
		return err
	}
	kept := *s.state.keys[w.unwrapped()]
	if err := w.destroy().perform(s); err != nil {
		return err
	}
	kept.name = b.key.name
	s.state.backups[w.Name].key, s.state.backups[w.Name].of = &kept, w.Backup
	return nil
}

func (w *RewrapBackup) asks(p *Plan) []string {
	so := asksSO(p, w, w.Token)
	return append(append(so, so...), AskYes)
}

func (w *RewrapBackup) shows(s *Session, v *shown) {
	if b := s.state.backups[w.Name]; b != nil {
		v.fact("stands for", "key "+b.key.original())
		showSecret(s, v, b.shares, "the wrapping key of backup "+w.Name)
	}
	if b, _ := s.backup(w.Backup); b != nil {
		v.remark("the backup %s still opens with the old shares, of which %d of %s are enough: have the decryption keys of those who leave destroyed. Those who stay keep theirs where it opens the new share, too", show.Text(w.Backup), b.shares.Threshold(), show.List(b.shares.Holders()))
	}
}

// rewrapped asks, after the last step, that no backup is left with shares that were replaced.
func (s *Session) rewrapped() error {
	if len(s.state.replaced) == 0 {
		return nil
	}
	all := s.script.allBackups(s.state)
	for _, n := range sortedKeys(all) {
		step, ok := s.state.replaced[all[n].shares.Digest()]
		if !ok || replacement(all, n) != "" {
			continue
		}
		if err := s.hold(RuleRewrap, false, "shares %q replace those of backup %q, and no step wraps it anew: it would open with the old ones only. Add rewrap-backup; or, where too few of the old holders are left, leave `previous` out", step, n); err != nil {
			return err
		}
	}
	return nil
}

// allBackups are those of this state and of the ceremonies before the script, by name.
func (s *Script) allBackups(st *state) map[string]*backup {
	all := map[string]*backup{}
	if s.earlier != nil {
		all = s.earlier.left().backups
	}
	maps.Copy(all, st.backups)
	return all
}

// replacement is the backup that was made by wrapping another one anew; empty where none was.
func replacement(all map[string]*backup, name string) string {
	for _, n := range sortedKeys(all) {
		if all[n].of == name {
			return n
		}
	}
	return ""
}
