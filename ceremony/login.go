package ceremony

import (
	"context"
	"errors"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// login opens tokens by the PIN that they have now. Where a run was cut short while it changed a user PIN, nobody knows
// whether the token took the new one: the new is tried first, then the old, once each.
type login struct {
	open       Opener
	custodians Custodians
	// pins are the shares whose PIN a token may have, newest first, by token name; nil in the list stands for the PIN
	// that the token had before.
	pins map[string][]*quorum.Shares
	// with are the shares by whose PIN a token was opened.
	with map[string]*quorum.Shares
}

// pinChanger is a leaf of a user PIN that was changed, or may have been.
type pinChanger interface{ changesPIN(*pinHistory) }

// pinHistory is what a journal says of user PINs.
type pinHistory struct {
	pins   map[string][]*quorum.Shares
	newest *quorum.Shares
}

// changed notes that the PIN was changed to that of the newest shares.
func (h *pinHistory) changed(token, purpose string) {
	if purpose == string(quorum.PurposeUser) && h.newest != nil {
		h.pins[token] = []*quorum.Shares{h.newest}
	}
}

// perhaps notes that the PIN was changed, or not.
func (h *pinHistory) perhaps(token, purpose string) {
	if purpose != string(quorum.PurposeUser) || h.newest == nil {
		return
	}
	before := h.pins[token]
	if before == nil {
		before = []*quorum.Shares{nil}
	}
	h.pins[token] = append([]*quorum.Shares{h.newest}, before...)
}

// newLogin reads from a journal which user PINs were changed.
func newLogin(open Opener, custodians Custodians, pending [][]byte) *login {
	h := &pinHistory{pins: map[string][]*quorum.Shares{}}
	for _, e := range entriesOf(pending) {
		if c, ok := e.leaf.(pinChanger); ok {
			c.changesPIN(h)
		}
	}
	return &login{open: open, custodians: custodians, pins: h.pins, with: map[string]*quorum.Shares{}}
}

// token opens a token.
func (l *login) token(ctx context.Context, name string, uri hsm.URI) (hsm.Token, error) {
	if l.open == nil {
		return nil, advice.New(advice.Usage, "", "nobody can open token %q here", name)
	}
	candidates := l.pins[name]
	if len(candidates) == 0 {
		return l.open(ctx, name, uri, nil)
	}
	for i, d := range candidates {
		t, err := l.try(ctx, name, uri, d)
		if errors.Is(err, hsm.ErrPIN) && i+1 < len(candidates) {
			continue
		}
		if err == nil {
			l.with[name] = d
		}
		return t, err
	}
	return nil, nil
}

func (l *login) try(ctx context.Context, name string, uri hsm.URI, d *quorum.Shares) (hsm.Token, error) {
	if d == nil {
		return l.open(ctx, name, uri, nil)
	}
	if l.custodians == nil {
		return nil, advice.New(advice.Usage, "give the decryption keys of the custodians present", "the PIN of token %q is held by a quorum", name)
	}
	return l.open(ctx, name, uri, func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) {
		return pinOf(ctx, l.custodians, d, info)
	})
}

// pinOf puts the secret of the shares together and derives the PIN.
func pinOf(ctx context.Context, c Custodians, d *quorum.Shares, info hsm.TokenInfo) ([]byte, error) {
	if info.Serial != d.TokenSerial() {
		return nil, refuse(RuleToken, "the shares are for the token with serial %s, not for %s", show.Text(d.TokenSerial()), info.Name())
	}
	secret, err := c.Secret(ctx, d)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	return secret.PIN(info.MinPIN, info.MaxPIN)
}
