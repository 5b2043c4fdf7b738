package pkcs11

import (
	"crypto"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	if err := t.m.guard.lock(bg); err != nil {
		panic(err)
	}
	defer t.m.guard.unlock()
	if err := t.m.ctx.Finalize(); err != nil {
		panic(err)
	}
}

func CloseSessions(t *Token) {
	_ = t.m.enter(bg)
	defer t.m.leave()
	t.mu.Lock()
	slot := t.slot
	t.mu.Unlock()
	_ = t.m.ctx.CloseAllSessions(slot)
}

func LogOut(t *Token) {
	_ = t.m.enter(bg)
	defer t.m.leave()
	if err := t.m.ctx.Logout(t.anchor); err != nil {
		panic(err)
	}
}

// ForgetHandles gives the key a handle that is dead.
func ForgetHandles(k hsm.Key) { k.(*Key).handle = 987654 }

// WrapUnchecked asks the token itself to wrap, without the checks before it.
func WrapUnchecked(t *Token, wrapping, key string) error {
	return t.do(bg, func(s session) error {
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
	return t.do(bg, func(s session) error {
		_, err := t.m.ctx.CreateObject(s.h, []*p11.Attribute{
			attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, false),
			attr(p11.CKA_LABEL, "forged"), attr(p11.CKA_TRUSTED, true), attr(p11.CKA_WRAP, true), attr(p11.CKA_VALUE, make([]byte, 32)),
		})
		return err
	})
}

// GenerateWith generates with attributes of the private key overridden, as a token might that ignores what it is asked.
func GenerateWith(t *Token, spec hsm.GenerateSpec, override map[uint]any) (hsm.Key, error) {
	var key *Key
	err := t.do(bg, func(s session) (err error) {
		if spec.Use == "" {
			spec.Use = hsm.Signing
		}
		public, private := templates(spec, []byte("override"), kinds[spec.Algorithm])
		for kind, value := range override {
			private = append(slices.DeleteFunc(private, func(a *p11.Attribute) bool { return a.Type == kind }), attr(kind, value))
		}
		key, err = t.generateIn(s, spec, kinds[spec.Algorithm], public, private)
		return err
	})
	if err != nil {
		err = errors.Join(err, t.removeFresh(bg, []byte("override"), nil))
	}
	return key, err
}

// GenerateAlwaysAuthenticate makes a key that wants the PIN at each use, as PIV's slot 9C has.
func GenerateAlwaysAuthenticate(t *Token, label string, a hsm.Algorithm) (hsm.Key, error) {
	return GenerateWith(t, hsm.GenerateSpec{Label: label, Algorithm: a, Class: hsm.Sealed}, map[uint]any{p11.CKA_ALWAYS_AUTHENTICATE: true})
}

// Drop makes the token believe that it lacks a mechanism.
func Drop(t *Token, mechanism uint) { delete(t.mechanisms, mechanism) }

// CountObjects counts all objects that a login shows.
func CountObjects(t *Token) (n int) {
	if err := t.do(bg, func(s session) error {
		all, err := t.match(s, nil)
		n = len(all)
		return err
	}); err != nil {
		panic(err)
	}
	return n
}

// MayRestart lets the library be restarted at once, however short ago it was.
func MayRestart(t *Token) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	t.m.restartAfter, t.m.restartPause = time.Time{}, 0
}

// Relabel gives a key another label, both halves, in the token.
func Relabel(t *Token, from, to string) {
	if err := t.do(bg, func(s session) error {
		for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY} {
			found, err := t.search(s, class, hsm.Query{Label: from})
			if err != nil {
				return err
			}
			for _, o := range found {
				if err := t.m.ctx.SetAttributeValue(s.h, o, []*p11.Attribute{attr(p11.CKA_LABEL, to)}); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		panic(err)
	}
}

// GenerateUnproven makes a key pair as another program does, which looks at nothing afterwards.
func GenerateUnproven(t *Token, label string, id []byte, a hsm.Algorithm) error {
	return t.do(bg, func(s session) error {
		spec := hsm.GenerateSpec{Label: label, Algorithm: a, Class: hsm.Sealed, Use: hsm.Signing}
		public, private := templates(spec, id, kinds[a])
		_, _, err := t.generatePair(s, spec, kinds[a], public, private)
		return err
	})
}

// Probe asks a key for its secret values, and tries to wrap it.
func Probe(t *Token, key hsm.Key) (read, wrap error) {
	k := key.(*Key)
	err := k.use(bg, func(s session, o p11.ObjectHandle) error {
		read, wrap = t.probeRead(s, o, k.attributes), t.probeWrap(s, o, hsm.Sealed)
		return nil
	})
	return errors.Join(err, read), errors.Join(err, wrap)
}

// GenerateLost makes a key pair of which nobody learns: the process that asked for it was killed.
func GenerateLost(t *Token, spec hsm.GenerateSpec) error {
	spec, kind, err := t.checkSpec(spec)
	if err != nil {
		return err
	}
	return t.do(bg, func(s session) error {
		public, private := templates(spec, spec.ID, kind)
		_, _, err := t.generatePair(s, spec, kind, public, private)
		return err
	})
}

// TellNobodySlow undoes OnSlow.
func TellNobodySlow() { tellSlow.Store(nil) }

// SlotOf is the slot that holds the token at the moment.
func SlotOf(t *Token) uint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slot
}

// SignBare makes n signatures with a key on so many sessions of its own, each with C_SignInit and C_Sign and nothing else, and says how many a
// second.
func SignBare(t *Token, key hsm.Key, sessions int, n int64) (float64, error) {
	k := key.(*Key)
	mechanism, data := p11.NewMechanism(p11.CKM_ECDSA, nil), make([]byte, 32)
	if kinds[k.attributes.Algorithm].family == familyRSA {
		mechanism, data = p11.NewMechanism(p11.CKM_RSA_PKCS, nil), append(slices.Clone(digestInfo[crypto.SHA256]), data...)
	}
	if err := t.m.enter(bg); err != nil {
		return 0, err
	}
	defer t.m.leave()
	var left atomic.Int64
	left.Store(n)
	failed := make(chan error, sessions)
	var open []p11.SessionHandle
	for range sessions {
		h, err := openSession(t.m.ctx, t.slot)
		if err != nil {
			return 0, err
		}
		defer t.m.ctx.CloseSession(h) //nolint:errcheck // the token is closed soon
		open = append(open, h)
	}
	var one sync.Mutex // p11-kit's client gets its calls one at a time; see module.enter
	var wg sync.WaitGroup
	begin := time.Now()
	for _, h := range open {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if t.m.turn != nil {
					one.Lock()
				}
				err := t.m.ctx.SignInit(h, []*p11.Mechanism{mechanism}, k.handle)
				if err == nil {
					_, err = t.m.ctx.Sign(h, data)
				}
				if t.m.turn != nil {
					one.Unlock()
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	select {
	case err := <-failed:
		return 0, err
	default:
		return float64(n) / took.Seconds(), nil
	}
}

// HandleOf is the handle that a key was found with last.
func HandleOf(k hsm.Key) uint { return uint(k.(*Key).handle) }

// ForgetOAEP has a token look like one that decrypts by the bare RSA operation only.
func ForgetOAEP(t *Token) { delete(t.mechanisms, p11.CKM_RSA_PKCS_OAEP) }
