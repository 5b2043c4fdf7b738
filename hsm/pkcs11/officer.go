package pkcs11

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/secret"
)

// securityOfficer works in the anchor session while the security officer is logged in.
type securityOfficer struct {
	t    *Token
	at   slotToken
	over bool
}

var _ hsm.SecurityOfficer = (*securityOfficer)(nil)

// AsSecurityOfficer logs the user out, the security officer in with one try, runs f, and logs the user in again. Other
// calls to the token wait meanwhile. It is refused while another Token of this process has the same token open, whose
// login would end unasked. f must use nothing of the token but what it is given.
func (t *Token) AsSecurityOfficer(ctx context.Context, soPIN []byte, f func(hsm.SecurityOfficer) error) error {
	if err := hsm.CheckPIN(soPIN); err != nil {
		return advice.New(advice.Usage, "type the SO PIN again", "%s: %w", t.Info().Name(), err)
	}
	t.loginChange.Lock()
	defer t.loginChange.Unlock()
	if t.sharers() > 1 {
		return advice.New(advice.Failed, "close the other one first", "%s: another part of this program has the token open", t.Info().Name())
	}
	restore, err := t.pool.takeAll(ctx)
	if err != nil {
		return t.fail(err, "wait for the calls in progress")
	}
	defer restore()
	for {
		begun, err := t.officer(ctx, soPIN, f)
		var lost error
		if begun {
			// The user's login ended, and with it every handle of a private object: open anew.
			if lost = t.signUserIn(); lost != nil {
				err = errors.Join(err, t.fail(lost, "log the user in again"))
			}
		}
		// Another user had the library started anew before anything was done here.
		if errors.Is(err, errStale) && lost == nil && ctx.Err() == nil {
			continue
		}
		return t.fail(err, "as security officer")
	}
}

// sharers is how many Tokens of this process share the login.
func (t *Token) sharers() int {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.login == nil {
		return 0
	}
	return t.login.holders
}

// officer runs f between login and logout. begun says whether the user's login is over.
func (t *Token) officer(ctx context.Context, soPIN []byte, f func(hsm.SecurityOfficer) error) (begun bool, err error) {
	if err := t.m.enter(ctx); err != nil {
		return false, err
	}
	defer t.m.leave()
	t.mu.Lock()
	at, closed, generation := slotToken{slot: t.slot, info: t.info}, t.closed, t.generation
	anchor := t.anchor
	t.mu.Unlock()
	if closed {
		return false, fmt.Errorf("%s: %w", at.info.Name(), hsm.ErrClosed)
	}
	if generation != t.m.generation {
		return true, errStale
	}
	t.pool.flush(true)
	if err := t.m.ctx.Logout(anchor); err != nil && code(err) != p11.CKR_USER_NOT_LOGGED_IN {
		return true, err
	}
	if err := t.m.signIn(anchor, at, p11.CKU_SO, soPIN); err != nil {
		return true, err
	}
	so := &securityOfficer{t: t, at: at}
	defer func() {
		so.over = true
		if e := t.m.ctx.Logout(anchor); e != nil && code(e) != p11.CKR_USER_NOT_LOGGED_IN {
			err = errors.Join(err, e)
		}
	}()
	return true, f(so)
}

// session is the anchor session: the only one that is open while the security officer is logged in, who must not meet a user's.
func (so *securityOfficer) session() (session, error) {
	if so.over {
		return session{}, errors.New("the security officer is not logged in any more")
	}
	return session{h: so.t.anchor, slot: so.at.slot}, nil
}

// ImportWrappingKey stores an AES-256 key as hsm.SecurityOfficer says. It is a public object, since the security officer can make no
// other, but sensitive and never to be read; destroy it when the backup is done, for any user session can wrap with it.
func (so *securityOfficer) ImportWrappingKey(label string, id, key []byte) error {
	s, err := so.session()
	if err != nil {
		return err
	}
	t, c := so.t, so.t.m.ctx
	if label == "" || len(id) == 0 || len(key) != 32 {
		return advice.New(advice.Usage, "give all three; the key has 32 bytes", "%s: import wrapping key: label, id or key does not fit", so.at.info.Name())
	}
	if !t.can(ckmAESKeyWrapPad, p11.CKF_WRAP) {
		return t.lacks("CKM_AES_KEY_WRAP_PAD", "import a wrapping key")
	}
	if err := t.refuseExisting(s, hsm.Query{Label: label}, hsm.Query{ID: id}); err != nil {
		return err
	}
	o, err := c.CreateObject(s.h, []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, false),
		attr(p11.CKA_LABEL, label), attr(p11.CKA_ID, id), attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, false), attr(p11.CKA_TRUSTED, true),
		attr(p11.CKA_WRAP, true), attr(p11.CKA_UNWRAP, true), attr(p11.CKA_ENCRYPT, false), attr(p11.CKA_DECRYPT, false), attr(p11.CKA_SIGN, false),
		attr(p11.CKA_VERIFY, false), attr(p11.CKA_DERIVE, false), attr(p11.CKA_VALUE, key),
	})
	if err != nil {
		return err
	}
	if err := t.checkWrapping(s, o); err != nil {
		return errors.Join(err, c.DestroyObject(s.h, o))
	}
	return nil
}

// checkWrapping reads a wrapping key back: trusted, sensitive, unextractable, and of no other use.
func (t *Token) checkWrapping(s session, o p11.ObjectHandle) error {
	v, err := t.attributes(s, o, p11.CKA_KEY_TYPE, p11.CKA_TRUSTED, p11.CKA_SENSITIVE, p11.CKA_EXTRACTABLE, p11.CKA_WRAP, p11.CKA_UNWRAP,
		p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_DERIVE)
	if err != nil {
		return err
	}
	for kind, want := range map[uint]bool{p11.CKA_TRUSTED: true, p11.CKA_SENSITIVE: true, p11.CKA_EXTRACTABLE: false, p11.CKA_WRAP: true, p11.CKA_UNWRAP: true,
		p11.CKA_ENCRYPT: false, p11.CKA_DECRYPT: false, p11.CKA_DERIVE: false} {
		if isTrue(v[kind]) != want {
			return fmt.Errorf("%w: wrapping key: attribute 0x%x is %t", hsm.ErrAttributes, kind, !want)
		}
	}
	if number(v[p11.CKA_KEY_TYPE]) != p11.CKK_AES {
		return fmt.Errorf("%w: the wrapping key is not an AES key", hsm.ErrAttributes)
	}
	return nil
}

// InitPIN sets the user PIN, whatever it was, and unlocks it.
func (so *securityOfficer) InitPIN(pin []byte) error {
	s, err := so.session()
	if err != nil {
		return err
	}
	if err := so.fits(pin); err != nil {
		return err
	}
	if err := so.t.m.ctx.InitPIN(s.h, pinString(pin)); err != nil {
		return err
	}
	so.t.keep(pin)
	return nil
}

// SetPIN changes the security officer's own PIN.
func (so *securityOfficer) SetPIN(before, after []byte) error {
	s, err := so.session()
	if err != nil {
		return err
	}
	if err := so.fits(after); err != nil {
		return err
	}
	err = so.t.m.ctx.SetPIN(s.h, pinString(before), pinString(after))
	return so.t.m.pinAnswer(err, so.at, p11.CKU_SO)
}

func (so *securityOfficer) fits(pin []byte) error { return fitsToken(so.at.info, pin) }

// fitsToken refuses a new PIN that is outside the token's limits.
func fitsToken(info hsm.TokenInfo, pin []byte) error {
	if err := hsm.CheckNewPIN(pin, info); err != nil {
		return advice.New(advice.Usage, "choose one within the limits", "%s: new PIN: %w", info.Name(), err)
	}
	return nil
}

// keep replaces the kept PIN after a change.
func (t *Token) keep(pin []byte) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.login != nil && !t.askAgain {
		t.login.pin.Wipe()
		t.login.pin = secret.New(pin)
	}
}

// SetPIN changes the user PIN, with one try of the old one, and shows by a fresh login that the new one is right.
func (t *Token) SetPIN(ctx context.Context, before, after []byte) error {
	info := t.Info()
	if info.PINPad {
		return t.setPINAtPad(ctx)
	}
	if err := errors.Join(hsm.CheckPIN(before), fitsToken(info, after)); err != nil {
		return t.fail(err, "change the user PIN")
	}
	// The kept PIN tells a wrong old one without spending a try.
	t.m.mu.Lock()
	known := t.login != nil && t.login.pin != nil && !t.login.pin.Equal(before)
	t.m.mu.Unlock()
	if known {
		return advice.New(advice.Failed, "give the PIN that the token is logged in with", "%s: change the user PIN: the old one: %w (no try was spent)", info.Name(), hsm.ErrPIN)
	}
	t.loginChange.Lock()
	defer t.loginChange.Unlock()
	err := t.do(ctx, func(s session) error {
		s.act()
		return t.m.pinAnswer(t.m.ctx.SetPIN(s.h, pinString(before), pinString(after)), slotToken{slot: s.slot, info: info}, p11.CKU_USER)
	})
	if err != nil {
		return t.fail(err, "change the user PIN")
	}
	t.keep(after)
	if t.sharers() > 1 {
		return nil // a logout would end the others' login too
	}
	restore, err := t.pool.takeAll(ctx)
	if err != nil {
		return t.fail(err, "wait for the calls in progress")
	}
	defer restore()
	return t.fail(t.signUserIn(), "log in with the new user PIN")
}

// signUserIn opens the token anew; a PIN refused here is not tried again by a recovery either.
func (t *Token) signUserIn() error {
	_, err := t.reopen(true)
	if final(err) {
		t.mu.Lock()
		t.gaveUp = err
		t.mu.Unlock()
	}
	return err
}
