package ceremony

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// checkAsserted holds the asserted time to the script's window and to what it carries on from.
func (s *Script) checkAsserted(t time.Time) error {
	if t.Before(s.from) || t.After(s.until) {
		return refuse(RuleAsserted, "the asserted time %s lies outside the script's window, %s to %s", formatTime(t), formatTime(s.from), formatTime(s.until))
	}
	if s.earlier != nil && t.Before(s.earlier.ended) {
		return refuse(RuleAsserted, "the asserted time %s lies before the end of the earlier ceremony, %s", formatTime(t), formatTime(s.earlier.ended))
	}
	return nil
}

// InWindow says whether the time that people agreed on lies in the script's window, and after what it carries on from.
func (s *Script) InWindow(t time.Time) error { return s.checkAsserted(t) }

// authorise checks the quorum and says in the first leaf what is performed.
func (r *run) authorise() error {
	var used func(string) bool
	var unknown error
	if !r.Rehearsal {
		if r.Anchor.State.Dir() == "" {
			return advice.New(advice.Usage, "name a folder with --state", "no folder is named in which this machine remembers what it did")
		}
		used = func(nonce string) (yes bool) {
			yes, unknown = r.Anchor.State.Used(nonce)
			return yes
		}
	}
	var err error
	r.begin, err = firstLeaf(r.script, r.roster, r.Approvals, used, r.Tool, r.Asserted, r.Rehearsal)
	if err = errors.Join(unknown, err); err != nil {
		return err
	}
	r.begin.Answers = "terminal"
	if r.AnswersFromFile {
		r.begin.Answers = "file"
	}
	r.begin.Officers = r.present()
	if r.Rehearsal {
		return nil
	}
	return r.script.carriesOn(r.Anchor, r.begin.Nonce)
}

// carriesOn asks that the ceremony that the script carries on from is the right one, attested, and that nobody carried on
// from it before.
func (s *Script) carriesOn(a Anchor, nonce string) error {
	if err := s.earlierAnchored(a); err != nil {
		return err
	}
	if s.earlier != nil {
		if err := s.earlier.verified.attested(); err != nil {
			return advice.Wrap(advice.Refused, refuse(RuleEarlier, "%s: %w", show.Text(s.config.Earlier.Folder), err), advice.Hint(err))
		}
	}
	if err := a.State.CanFollow(begunBy(s, nonce)); err != nil {
		return advice.Wrap(advice.KindOf(err), refuse(RuleEarlier, "%w", err), advice.Hint(err))
	}
	return nil
}

func (r *run) present() []officerRecord {
	var present []officerRecord
	for _, o := range r.officers {
		present = append(present, officerRecord{o.officer.Name, string(o.officer.Role), o.officer.KeyID})
	}
	return present
}

// preflight opens the tokens and reads: what they are, whether they can do what the steps need, and that no label that a
// step will make exists, but for those that the journal of a resumed run made.
func (r *run) preflight(ctx context.Context, made map[place]bool) error {
	if err := r.openTokens(ctx); err != nil {
		return err
	}
	return r.checkLabels(ctx, made)
}

// openTokens opens the tokens and sees that they are those of the script.
func (r *run) openTokens(ctx context.Context) error {
	for _, name := range r.script.tokensAtStart() {
		r.Progress.Step("opening token %q", name)
		uri := r.script.tokens[name]
		t, err := r.login.token(ctx, name, uri)
		if err != nil {
			return fmt.Errorf("token %q: %w", name, err)
		}
		r.tokens[name] = t
		if uri = r.how.uri(uri); !uri.MatchesToken(t.Info()) {
			return refuse(RuleToken, "the token opened as %q is %s, not %s", name, t.Info().Name(), uri)
		}
		for _, n := range r.Plan.needs() {
			if n.token == name && n.able != nil {
				if err := n.able(t); err != nil {
					return err
				}
			}
		}
		for other, o := range r.tokens {
			if other != name && o.Info().Label == t.Info().Label && o.Info().Serial == t.Info().Serial {
				return refuse(RuleToken, "tokens %q and %q are one token", other, name)
			}
		}
	}
	return nil
}

// checkLabels refuses labels that exist in a token before the ceremony begins.
func (r *run) checkLabels(ctx context.Context, made map[place]bool) error {
	labels := map[string][]string{}
	for _, n := range r.Plan.needs() {
		if n.label != "" && !made[place{n.token, n.label}] {
			labels[n.token] = append(labels[n.token], n.label)
		}
	}
	for _, name := range sortedKeys(labels) {
		t, ok := r.tokens[name]
		if !ok {
			continue
		}
		keys, err := t.Keys(ctx)
		if err != nil {
			return fmt.Errorf("token %q: %w", name, err)
		}
		for _, k := range keys {
			if label := k.Attributes().Label; slices.Contains(labels[name], label) {
				return refuse(RuleLabel, "%s holds a key %q already", t.Info().Name(), label)
			}
		}
	}
	return nil
}

// taker is a step that takes up a key which an earlier ceremony left.
type taker interface {
	takes(s *Script) (token string, k *key)
}

// checkTaken refuses a run if a key is gone that a step will take up: it would be found only when others have signed.
func (r *run) checkTaken(ctx context.Context) error {
	if r.Rehearsal {
		return nil
	}
	for _, st := range r.script.steps {
		step, ok := st.step.(taker)
		if !ok {
			continue
		}
		name, k := step.takes(r.script)
		t := r.tokens[name]
		if k == nil || t == nil {
			continue
		}
		live, err := t.Key(ctx, hsm.Query{Label: k.label, ID: k.id})
		if err == nil && !ca.SameKey(live.Public(), k.public) {
			err = refuse(RuleOneKey, "key %q in %s is not the key of the earlier ceremony", k.label, t.Info().Name())
		}
		if err != nil {
			return stepError(r.script, st, fmt.Errorf("key %q, which the earlier ceremony left: %w", k.name, err))
		}
	}
	return nil
}

// checkWitnesses refuses a run at which a witness whom a step names is not present.
func (r *run) checkWitnesses() error {
	for _, st := range r.script.steps {
		if w := st.step.people().witness; w != "" {
			if err := r.how.witnessed(w, r.present()); err != nil {
				return stepError(r.script, st, err)
			}
		}
	}
	return nil
}
