package ceremony

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
)

// kindFoundAgain is the kind of leaf of a key that a new login found.
const kindFoundAgain = "found-again"

var _ = register[foundAgainLeaf](kindFoundAgain)

// foundAgainLeaf: after the last step, by a new login to the token, the key was found again by its label and id, with the same
// public key. A test signature follows. A key that was an object of the session that made it is not found.
type foundAgainLeaf struct {
	Head
	Name string `json:"name"`
	// Token by its name in the script, and the serial that it read back after the new login.
	Token       string         `json:"token"`
	Serial      string         `json:"token_serial"`
	Fingerprint string         `json:"spki_sha256"`
	Attributes  hsm.Attributes `json:"attributes"`
}

func (l *foundAgainLeaf) record() string {
	return fmt.Sprintf("%s: found again in token %s by a new login; read back: %s", l.Name, l.Token, attributeWords(l.Attributes))
}

// testText is what each key signs after it was found again: a text that is nothing else, frozen in docs/spec/transcript.md.
func testText(script *Script, k *key) string {
	return strings.Join([]string{"hanaper: a test signature by a key that was found again, and nothing else", script.config.Environment, script.config.Ceremony,
		k.name, hexSHA256(k.spki), ""}, "\n")
}

// findAgain logs in anew to each token in which this ceremony made a key, finds each of these keys, and has it sign.
func (s *Session) findAgain() error {
	renewed := map[string]bool{}
	for _, name := range sortedKeys(s.state.keys) {
		k := s.state.keys[name]
		if !k.madeHere || k.destroyed || k.standIn {
			continue
		}
		if len(renewed) == 0 {
			s.how.progress.Step("logging in anew, to find every key of this ceremony again")
		}
		if err := s.findKeyAgain(k, renewed); err != nil {
			return fmt.Errorf("key %q, looked for again after the last step: %w", k.name, err)
		}
		if s.failed != nil {
			return s.failed
		}
	}
	return nil
}

func (s *Session) findKeyAgain(k *key, renewed map[string]bool) error {
	var l foundAgainLeaf
	if err := s.outcome(&l, kindFoundAgain, func(bool) error {
		if !renewed[k.token] {
			renewed[k.token] = true
			if err := s.renew(k.token); err != nil {
				return err
			}
		}
		t, err := s.token(k.token)
		if err != nil {
			return err
		}
		live, err := t.Key(s.ctx, hsm.Query{Label: k.label, ID: k.id})
		if err != nil {
			return err
		}
		if !ca.SameKey(live.Public(), k.public) {
			return refuse(RuleOneKey, "%s holds another key under the label and id of key %q", t.Info().Name(), k.name)
		}
		k.live = live
		l.Name, l.Token, l.Serial, l.Fingerprint, l.Attributes = k.name, k.token, t.Info().Serial, hexSHA256(k.spki), live.Attributes()
		return nil
	}, func() error {
		if l.Name != k.name || l.Token != k.token || l.Serial != s.infos[k.token].Serial || l.Fingerprint != hexSHA256(k.spki) {
			return errors.New("is not about the key or the token of the script")
		}
		now := *k
		if now.attrs = l.Attributes; len(now.id) > 0 && hex.EncodeToString(now.attrs.ID) != hex.EncodeToString(now.id) {
			return errors.New("names another id")
		}
		return checkAttributes(&now)
	}); err != nil {
		return err
	}
	return k.signTest(testText(s.script, k))
}

// renew logs in to a token anew. A token that cannot do so itself is closed, and opened again when it is asked for.
func (s *Session) renew(name string) error {
	if s.how.onSpecimens() {
		return nil
	}
	t, err := s.token(name)
	if err != nil {
		return err
	}
	if able, ok := t.(interface{ Renew(context.Context) error }); ok {
		return able.Renew(s.ctx)
	}
	return s.release(name)
}
