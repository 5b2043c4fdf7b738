package pkcs11

import "github.com/hanaper/hanaper/hsm"

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
