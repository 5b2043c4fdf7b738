package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/secret"
)

// login is what this process knows of its login to one token. PKCS#11 logs a process in, not a session, so all Tokens
// of one token share it.
type login struct {
	key     string // in module.logins: the token's names as they were first read, for a token may change what it says
	holders int
	pin     *secret.Secret // nil where memory cannot be locked, or the PIN is asked for again (Config.AskAgain)
	doubts  int            // how often in a row C_Login failed without a word about the PIN
}

// askPIN gives the PIN to log in with: the kept one, or the source's. The caller wipes it. It is called outside
// the guard, for a person may take long to answer.
func (t *Token) askPIN(ctx context.Context, info hsm.TokenInfo) ([]byte, error) {
	t.m.mu.Lock()
	if t.login != nil && t.login.pin != nil {
		pin := append([]byte(nil), t.login.pin.Bytes()...)
		t.m.mu.Unlock()
		return pin, nil
	}
	t.m.mu.Unlock()
	if info.PINPad {
		t.tell("type the PIN of " + info.Name() + " at its own keys")
		return atPad, nil
	}
	if t.pin == nil {
		return nil, advice.New(advice.Usage, "add pin-source= to the URI, or let the program ask", "%s wants a login and there is no PIN", info.Name())
	}
	pin, err := t.pin(ctx, info)
	if err != nil {
		return nil, err
	}
	if err := hsm.CheckPIN(pin); err != nil {
		clear(pin)
		return nil, advice.New(advice.Usage, "type the PIN again", "%s: %w", info.Name(), err)
	}
	return pin, nil
}

// refuseLocked says no before a try that is hopeless, or, when nobody is there to decide, the last.
func refuseLocked(info hsm.TokenInfo, unattended bool) error {
	switch {
	case info.PINLocked:
		return advice.New(advice.Refused, "the security officer can set a new user PIN with the SO PIN", "%s: %w", info.Name(), hsm.ErrPINLocked)
	case unattended && info.PINFinalTry:
		return advice.New(advice.Refused, "somebody gave wrong PINs: find out who, then start the program anew",
			"%s: not logging in again by itself with the final PIN try: %w", info.Name(), hsm.ErrPIN)
	}
	return nil
}

// joinLogin counts this Token among the login's holders. A second holder must know the same PIN: C_Login would not check it.
func (t *Token) joinLogin(pin []byte) error {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	key := t.info.Label + "\x00" + t.info.Serial
	l := t.m.logins[key]
	if l == nil {
		l = &login{key: key}
		if !t.askAgain && !isPad(pin) {
			l.pin = secret.New(pin)
		}
		t.m.logins[key] = l
	} else if l.pin != nil && !isPad(pin) && !l.pin.Equal(pin) {
		return advice.New(advice.Failed, "give the PIN that this program is logged in with", "%s: %w: it is not the one in use here (no try was spent)", t.info.Name(), hsm.ErrPIN)
	}
	l.holders++
	t.login = l
	return nil
}

// leaveLogin gives the holder's place back and says whether it was the last.
func (t *Token) leaveLogin() (last bool) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.login == nil {
		return false
	}
	t.login.holders--
	if last = t.login.holders == 0; last {
		t.login.pin.Wipe()
		delete(t.m.logins, t.login.key)
	}
	t.login = nil
	return last
}

// signIn calls C_Login and reads the flags again when the PIN was refused. The caller is inside the guard. It makes one
// try and no more.
func (m *module) signIn(h p11.SessionHandle, at slotToken, user uint, pin []byte) error {
	if isPad(pin) {
		return m.pinAnswer(m.loginAtPad(h, user), at, user)
	}
	err := m.ctx.Login(h, user, pinString(pin))
	return m.pinAnswer(err, at, user)
}

// pinAnswer turns the answer to a PIN into an error that says where the token stands.
func (m *module) pinAnswer(err error, at slotToken, user uint) error {
	who, locked := "user PIN", "the security officer can set a new user PIN with the SO PIN"
	if user == p11.CKU_SO {
		who, locked = "SO PIN", "the token must be initialised anew, which destroys its keys"
	}
	switch code(err) {
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED:
		state := "how many tries are left, the token does not say"
		kind := hsm.ErrPIN
		if now, e := m.read(at.slot); e == nil && user == p11.CKU_USER {
			switch {
			case now.info.PINLocked:
				state, kind = "it is LOCKED now", hsm.ErrPINLocked
			case now.info.PINFinalTry:
				state = "the next wrong one LOCKS it"
			case now.info.PINLow:
				state = "tries are low"
			}
		}
		return advice.New(advice.Failed, "it is not tried again by itself; make sure that it is this token's PIN", "%s: %s: %w (%w): %s", at.info.Name(), who, kind, err, state)
	case p11.CKR_FUNCTION_CANCELED:
		if !at.info.PINPad {
			return err
		}
		return advice.New(advice.Failed, "start again, and type the PIN when the token asks for it", "%s: the %s was not typed at the token's own keys: %w", at.info.Name(), who, err)
	case p11.CKR_PIN_LOCKED:
		return advice.New(advice.Refused, locked, "%s: %s: %w", at.info.Name(), who, hsm.ErrPINLocked)
	case p11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN:
		return advice.New(advice.Failed, "let the other part of the program finish", "%s: another user is logged in: %w", at.info.Name(), err)
	case p11.CKR_USER_PIN_NOT_INITIALIZED:
		return advice.New(advice.Failed, "the security officer must set it first", "%s: no %s is set: %w", at.info.Name(), who, err)
	}
	return err
}

// pinString shows a PIN to the binding as the string that it wants, without a copy on Go's heap that nobody could wipe.
func pinString(pin []byte) string {
	if len(pin) == 0 {
		return ""
	}
	return unsafe.String(&pin[0], len(pin))
}

// forgetPIN wipes the kept PIN, so that nothing sends it again.
func (t *Token) forgetPIN() {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.login != nil {
		t.login.pin.Wipe()
		t.login.pin = nil
	}
}

// logIn opens the anchor session, which keeps the login alive while the pool is empty, and logs in. The caller is inside
// the guard.
func (t *Token) logIn(at slotToken, pin []byte) (p11.SessionHandle, error) {
	h, err := openSession(t.m.ctx, at.slot)
	if err != nil {
		return 0, fmt.Errorf("open a session: %w", err)
	}
	if pin == nil {
		return h, nil
	}
	err = t.m.signIn(h, at, p11.CKU_USER, pin)
	if err != nil {
		err = t.doubtful(err, at)
	}
	if code(err) == p11.CKR_USER_ALREADY_LOGGED_IN {
		// Another Token of this process (joinLogin compared the PINs), or another user of the library in it.
		err = nil
	}
	if err != nil {
		_ = t.m.ctx.CloseSession(h)
		return 0, err
	}
	t.m.mu.Lock()
	if t.login != nil {
		t.login.doubts = 0
	}
	t.m.mu.Unlock()
	return h, nil
}

// maxDoubts is how often in a row C_Login may fail without a word about the PIN. Cards lock after three wrong PINs.
const maxDoubts = 2

// doubt is an error after which the PIN is not sent again, as if it had been refused, although the token did not say so.
type doubt struct{ error }

func (d doubt) Unwrap() error        { return d.error }
func (d doubt) Is(target error) bool { return target == hsm.ErrPIN }

// doubtful looks at a failed C_Login that says nothing about the PIN. The token may have counted a try all the same, and a
// recovery that sends the PIN again and again would lock it: so the PIN is given up once the token shows that it counted, and at
// the second such failure in a row in any case.
func (t *Token) doubtful(err error, at slotToken) error {
	if final(err) || !sick(err) && code(err) != p11.CKR_FUNCTION_CANCELED && code(err) != p11.CKR_HOST_MEMORY && code(err) != p11.CKR_DEVICE_MEMORY {
		return err
	}
	counted := false
	if now, e := t.m.read(at.slot); e == nil {
		counted = now.info.PINLow && !at.info.PINLow || now.info.PINFinalTry && !at.info.PINFinalTry || now.info.PINLocked
	}
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	doubts := 1
	if t.login != nil {
		t.login.doubts++
		doubts = t.login.doubts
	}
	switch {
	case counted:
		return advice.New(advice.Failed, "it is not sent again by itself; look at the token's own log", "%s: user PIN: %w: C_Login answered %w, and the token counted a wrong try", at.info.Name(), hsm.ErrPIN, err)
	case doubts >= maxDoubts:
		return advice.New(advice.Failed, "the PIN is not sent again by itself, for the token may count tries; look at the token's own log, then start the program anew",
			"%s: user PIN: %w", at.info.Name(), doubt{fmt.Errorf("C_Login failed %d times in a row, and did not say whether the PIN is right: %w", doubts, err)})
	}
	return err
}

// final says whether an error of a login will not go away by waiting.
func final(err error) bool {
	return errors.Is(err, hsm.ErrPIN) || errors.Is(err, hsm.ErrPINLocked) || code(err) == p11.CKR_USER_PIN_NOT_INITIALIZED ||
		errors.Is(err, hsm.ErrAmbiguous) || errors.Is(err, context.Canceled)
}
