package pkcs11

import (
	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// What tests do to a token behind its back.

func RestartLibrary(t *Token) {
	if err := t.m.restart(bg, t.m.generation); err != nil {
		panic(err)
	}
}

// FinalizeLibrary leaves the library finalised, as a foreign C_Finalize does.
func FinalizeLibrary(t *Token) {
	if err := t.m.gate.alone(bg); err != nil {
		panic(err)
	}
	defer t.m.gate.open()
	if err := t.m.ctx.Finalize(); err != nil {
		panic(err)
	}
}

func CloseSessions(t *Token) {
	_ = t.m.gate.enter(bg)
	defer t.m.gate.leave()
	t.mu.Lock()
	slot := t.slot
	t.mu.Unlock()
	_ = t.m.ctx.CloseAllSessions(slot)
}

func LogOut(t *Token) {
	_ = t.m.gate.enter(bg)
	defer t.m.gate.leave()
	if err := t.m.ctx.Logout(t.anchor); err != nil {
		panic(err)
	}
}

// ForgetHandles gives the key a handle that is dead.
func ForgetHandles(k hsm.Key) { k.(*Key).handle = 987654 }

// WrapUnchecked asks the token itself to wrap, without the checks before it.
func WrapUnchecked(t *Token, wrapping, key string) error {
	return t.do(bg, true, func(s session) error {
		w, err := t.search(s, p11.CKO_SECRET_KEY, hsm.Query{Label: wrapping})
		if err != nil {
			return err
		}
		k, err := t.search(s, p11.CKO_PRIVATE_KEY, hsm.Query{Label: key})
		if err != nil {
			return err
		}
		_, err = t.m.ctx.WrapKey(s.h, []*p11.Mechanism{p11.NewMechanism(ckmAESKeyWrapPad, nil)}, w[0], k[0])
		return err
	})
}

// CreateTrusted tries to store a trusted key as the user.
func CreateTrusted(t *Token) error {
	return t.do(bg, true, func(s session) error {
		_, err := t.m.ctx.CreateObject(s.h, []*p11.Attribute{
			attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, false),
			attr(p11.CKA_LABEL, "forged"), attr(p11.CKA_TRUSTED, true), attr(p11.CKA_WRAP, true), attr(p11.CKA_VALUE, make([]byte, 32)),
		})
		return err
	})
}
