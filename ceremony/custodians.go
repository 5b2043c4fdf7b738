package ceremony

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// Custodians give what a quorum holds, or a person types, for the time of one act. The caller wipes what it gets.
type Custodians interface {
	// Secret puts together the secret that the shares hold, with the decryption keys of the officers present.
	Secret(ctx context.Context, shares *quorum.Shares) (*quorum.Secret, error)
	// Test has every holder present open the share encrypted to them.
	Test(ctx context.Context, shares *quorum.Shares) error
	// PIN gives the PIN of a token as it is now; which is "user" or "so".
	PIN(ctx context.Context, token, which string, info hsm.TokenInfo) ([]byte, error)
}

// vault is what backups ask of a token beyond hsm.Token.
type vault interface {
	hsm.Token
	CanWrap(a hsm.Algorithm) error
	WrapKey(ctx context.Context, wrapping, key hsm.Query) ([]byte, error)
	SealAfterBackup(ctx context.Context, q hsm.Query) (hsm.Attributes, error)
	UnwrapKey(ctx context.Context, spec hsm.RestoreSpec) (hsm.Key, error)
	DestroyWrappingKey(ctx context.Context, q hsm.Query) error
	AsSecurityOfficer(ctx context.Context, soPIN []byte, f func(hsm.SecurityOfficer) error) error
}

// vault gives an open token that can wrap.
func (s *Session) vault(name string) (vault, error) {
	t, err := s.token(name)
	if err != nil {
		return nil, err
	}
	v, ok := t.(vault)
	if !ok {
		return nil, refuse(RuleBackup, "token %q cannot wrap keys", name)
	}
	return v, nil
}

// shares reads the share document that a step of this ceremony made, or that an input holds.
func (s *Session) shares(name string, purpose quorum.Purpose) (*quorum.Shares, error) {
	if d, ok := s.state.shares[name]; ok {
		if d.Purpose() != purpose {
			return nil, refuse(RulePurpose, "shares %q are for %s, not for %s", name, show.Text(d.Purpose()), show.Text(purpose))
		}
		return d, nil
	}
	data, err := s.input(name)
	if err != nil {
		return nil, err
	}
	d, err := quorum.ParseShares(data)
	if err != nil {
		return nil, malformed("input %q: %w", name, err)
	}
	if d.Purpose() != purpose || d.Environment() != s.script.config.Environment {
		return nil, refuse(RulePurpose, "shares %q are for %s of environment %q", name, show.Text(d.Purpose()), d.Environment())
	}
	return d, nil
}

// withWrappingKey has the security officer import the trusted wrapping key, runs f, and destroys the key again.
func (s *Session) withWrappingKey(token string, shares *quorum.Shares, again bool, f func(v vault, wrapping hsm.Query) error) (err error) {
	sum := sha256.Sum256(append([]byte("hanaper wrapping key "), shares.Data()...))
	q := hsm.Query{Label: "hanaper wrapping key " + hex.EncodeToString(sum[:4]), ID: sum[:16]}
	v, err := s.vault(token)
	if err != nil {
		return err
	}
	if again {
		if err := v.DestroyWrappingKey(s.ctx, q); err != nil && !errors.Is(err, hsm.ErrNoKey) {
			return err
		}
	}
	wrapping, err := s.how.wrappingKey(s.ctx, shares)
	if err != nil {
		return err
	}
	defer clear(wrapping)
	so, err := s.pin(token, quorum.PurposeSO, v.Info())
	if err != nil {
		return err
	}
	defer clear(so)
	if err := v.AsSecurityOfficer(s.ctx, so, func(o hsm.SecurityOfficer) error { return o.ImportWrappingKey(q.Label, q.ID, wrapping) }); err != nil {
		return err
	}
	defer func() {
		if derr := v.DestroyWrappingKey(context.WithoutCancel(s.ctx), q); derr != nil {
			err = errors.Join(err, fmt.Errorf("the wrapping key is still in %s: %w", v.Info().Name(), derr))
		}
	}()
	return f(v, q)
}

// userPINSetter changes the user PIN of an open token.
type userPINSetter interface {
	SetPIN(ctx context.Context, before, after []byte) error
}

// pin gives a PIN of a token as it is now: from the shares that this ceremony made last, from those that the script
// names, or as a person types it.
func (s *Session) pin(token string, p quorum.Purpose, info hsm.TokenInfo) ([]byte, error) {
	keepers, err := s.how.keepers(fmt.Sprintf("the %s PIN of token %q", p, token))
	if err != nil {
		return nil, err
	}
	d := s.state.held[token+" "+string(p)]
	if d == nil && s.how.secrets() {
		if d, err = s.script.Shares(token, p); err != nil {
			return nil, err
		}
	}
	if d == nil {
		return keepers.PIN(s.ctx, token, string(p), info)
	}
	return pinOf(s.ctx, keepers, d, info)
}
