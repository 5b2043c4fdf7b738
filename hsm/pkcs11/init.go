package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Init initialises a blank token: label, SO PIN and user PIN. which is the blank token's serial or, since blank ones often have none, its
// slot number; empty means the first blank one. A token that is initialised already is refused, for C_InitToken
// would destroy all its keys; so is a label that another token of the library has.
func Init(ctx context.Context, library, which, label string, soPIN, userPIN []byte) (hsm.TokenInfo, error) {
	m, err := acquire(library)
	if err != nil {
		return hsm.TokenInfo{}, err
	}
	defer m.release()
	// It runs alone: two at once would choose the same blank token.
	if err := m.guard.lock(ctx); err != nil {
		return hsm.TokenInfo{}, err
	}
	defer m.guard.unlock()
	m.slow.enter(m.path)
	defer m.slow.leave()
	return m.initToken(which, label, soPIN, userPIN)
}

// Blank finds the token that Init would initialise, so that nobody thinks up PINs in vain: its info has the lengths that it
// takes. What Init refuses of which and label is refused here. Nothing is changed.
func Blank(ctx context.Context, library, which, label string) (hsm.TokenInfo, error) {
	m, err := acquire(library)
	if err != nil {
		return hsm.TokenInfo{}, err
	}
	defer m.release()
	if err := m.enter(ctx); err != nil {
		return hsm.TokenInfo{}, err
	}
	defer m.leave()
	blank, err := m.blank(which, label)
	if err != nil {
		err = advice.New(advice.KindOf(err), advice.Hint(err), "initialise token %q in %s: %w", label, show.Text(m.path), err)
	}
	return blank.info, err
}

func (m *module) initToken(which, label string, soPIN, userPIN []byte) (hsm.TokenInfo, error) {
	fail := func(kind advice.Kind, hint, format string, args ...any) (hsm.TokenInfo, error) {
		return hsm.TokenInfo{}, advice.New(kind, hint, "initialise token %q in %s: %w", label, show.Text(m.path), fmt.Errorf(format, args...))
	}
	if err := errors.Join(hsm.CheckPIN(soPIN), hsm.CheckPIN(userPIN)); err != nil {
		return fail(advice.Usage, "", "%w", err)
	}
	blank, err := m.blank(which, label)
	if err != nil {
		return fail(advice.KindOf(err), advice.Hint(err), "%w", err)
	}
	for name, pin := range map[string][]byte{"SO": soPIN, "user": userPIN} {
		if err := hsm.CheckNewPIN(pin, blank.info); err != nil {
			return fail(advice.Usage, "choose one within the limits", "the %s PIN: %w", name, err)
		}
	}
	if err := m.ctx.InitToken(blank.slot, pinString(soPIN), label); err != nil {
		hint := m.hint(err)
		if code(err) == p11.CKR_PIN_INCORRECT {
			hint = "this token has an SO PIN already, which its maker set: initialise it with the maker's own tool, which changes that PIN (openCryptoki: pkcsconf -I, then -P, then -u)"
		}
		return fail(advice.Failed, hint, "C_InitToken: %w", err)
	}
	// Some libraries give the token another slot at once; the label is new, and so names it.
	at, err := m.find(hsm.URI{Token: label})
	if err != nil {
		return fail(advice.Failed, "look with `hanaper token list`", "after C_InitToken: %w", err)
	}
	if err := m.setUserPIN(at, soPIN, userPIN); err != nil {
		return fail(advice.Failed, "the token is initialised with its SO PIN but has no user PIN: set one, or initialise it anew with the vendor's tool", "set the user PIN: %w", err)
	}
	if at, err = m.read(at.slot); err != nil {
		return fail(advice.Failed, m.hint(err), "%w", err)
	}
	return at.info, nil
}

// blank finds the token to initialise, and refuses a label that is taken.
func (m *module) blank(which, label string) (slotToken, error) {
	if label == "" || len(label) > 32 || strings.TrimRight(label, " ") != label || strings.ContainsAny(label, "\x00\n\r\t") {
		return slotToken{}, advice.New(advice.Usage, "use up to 32 bytes of plain text without spaces at the end", "the label does not fit")
	}
	all, err := m.slotTokens()
	if err != nil {
		return slotToken{}, advice.Wrap(advice.Failed, err, m.hint(err))
	}
	var blanks []slotToken
	for _, s := range all {
		named := which != "" && (s.info.Serial == which || strconv.FormatUint(uint64(s.slot), 10) == which)
		switch {
		case s.info.Initialized && s.info.Label == label:
			return slotToken{}, advice.New(advice.Refused, "choose another label; labels name tokens in scripts", "%s %w", s.info.Name(), hsm.ErrExists)
		case s.info.Initialized && named:
			return slotToken{}, advice.New(advice.Refused, "its keys would be destroyed; use the vendor's own tool if that is what you want", "%s is initialised already", s.info.Name())
		case !s.info.Initialized && (named || which == ""):
			blanks = append(blanks, s)
		}
	}
	if len(blanks) == 0 {
		return slotToken{}, advice.New(advice.Failed, "`hanaper token list` shows what is there; a token that is in use is emptied with its maker's own tool", "%w: none is blank", hsm.ErrNoToken)
	}
	return blanks[0], nil
}

// setUserPIN logs in as security officer in a session of its own, on a token that nobody uses.
func (m *module) setUserPIN(at slotToken, soPIN, userPIN []byte) (err error) {
	h, err := m.ctx.OpenSession(at.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.ctx.CloseSession(h)) }()
	if err := m.signIn(h, at, p11.CKU_SO, soPIN); err != nil {
		return err
	}
	err = m.ctx.InitPIN(h, pinString(userPIN))
	return errors.Join(err, m.ctx.Logout(h))
}
