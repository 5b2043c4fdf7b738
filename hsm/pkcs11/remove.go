package pkcs11

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// Remove destroys every private and public key of this label and id, whole pairs and halves, and proves in another session that
// none is left. It says whether there was any. It is for keys that the caller made: both must be given, and the id is one that
// nobody else has. It does no harm to remove twice, so an outage does not end it.
func (t *Token) Remove(ctx context.Context, q hsm.Query) (found bool, err error) {
	if q.Label == "" || len(q.ID) == 0 {
		return false, advice.New(advice.Usage, "give both", "%s: remove %s: what is removed is named by label and id", t.Info().Name(), q)
	}
	n, err := t.removeAll(ctx, q)
	return n > 0, t.fail(err, "remove key %s", q)
}

// removeAll destroys what q names, closes the session, and looks again in another one.
func (t *Token) removeAll(ctx context.Context, q hsm.Query) (n int, err error) {
	err = t.do(ctx, func(s session) error {
		more, err := t.removeIn(s, q)
		n += more
		if err == nil {
			err = errCloseSession
		}
		return err
	})
	if err == nil {
		err = t.absent(ctx, q)
	}
	return n, err
}

// removeIn destroys what q names, and counts it.
func (t *Token) removeIn(s session, q hsm.Query) (n int, err error) {
	for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY} {
		found, err := t.search(s, class, q)
		if err != nil {
			return n, err
		}
		for _, o := range found {
			// Some tokens take the public half away with the private one.
			if err := t.m.destroy(s, o); err != nil && !deadHandle(err) {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// destroy destroys a key object. From then on every key of the library's tokens is looked for anew, for some libraries (openCryptoki) give the
// handle to another object: a key that was destroyed would sign with somebody else's.
func (m *module) destroy(s session, o p11.ObjectHandle) error {
	err := m.ctx.DestroyObject(s.h, o)
	m.destroyed.Add(1)
	return err
}

// absent looks for the keys that q names in a session of its own: absence is what the token answers, not what was ordered.
func (t *Token) absent(ctx context.Context, q hsm.Query) error {
	return t.do(ctx, func(s session) error {
		for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY} {
			left, err := t.search(s, class, q)
			if err != nil {
				return err
			}
			if len(left) > 0 {
				return errors.New(className(class) + " is still there after it was destroyed")
			}
		}
		return nil
	})
}

// Destroy removes the key pair that q names, and proves that neither half is found any more. Certificates stay.
func (t *Token) Destroy(ctx context.Context, q hsm.Query) error {
	if q.Label == "" && len(q.ID) == 0 {
		return advice.New(advice.Usage, "name the key by label or id", "%s: destroy key %s", t.Info().Name(), q)
	}
	k, err := t.key(ctx, q)
	if err != nil {
		return t.fail(err, "destroy key %s", q)
	}
	full := hsm.Query{Label: k.attributes.Label, ID: k.attributes.ID}
	err = t.do(ctx, func(s session) error {
		private, _, err := k.locate(s, true)
		if errors.Is(err, hsm.ErrNoKey) {
			// Run again after an outage: the first run destroyed it.
			private = 0
		} else if err != nil {
			return err
		}
		publics, err := t.publicsOf(s, k, full)
		if err != nil {
			return err
		}
		if private != 0 {
			publics = append([]p11.ObjectHandle{private}, publics...)
		}
		for _, o := range publics {
			if err := t.m.destroy(s, o); err != nil && !deadHandle(err) {
				return err
			}
		}
		return errCloseSession
	})
	if err != nil {
		return t.fail(err, "destroy key %s", full)
	}
	err = t.absent(ctx, full)
	if err == nil {
		t.m.setGone(t.Info(), full, true)
	}
	return t.fail(err, "destroy key %s", full)
}

// setGone notes that this process destroyed the key that a token had under this name, or that it made another one of this name.
func (m *module) setGone(at hsm.TokenInfo, q hsm.Query, gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !gone {
		delete(m.gone, goneKey(at, q))
		return
	}
	m.gone[goneKey(at, q)] = true
}

// isGone says that a key is missing because this process destroyed it: then no restart of the library is worth trying.
func (m *module) isGone(at hsm.TokenInfo, q hsm.Query) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone[goneKey(at, q)]
}

func goneKey(at hsm.TokenInfo, q hsm.Query) string {
	return fmt.Sprintf("%q %q %q %x", at.Label, at.Serial, q.Label, q.ID)
}

// publicsOf are the public key objects of this name that hold the key's public half.
func (t *Token) publicsOf(s session, k *Key, q hsm.Query) ([]p11.ObjectHandle, error) {
	found, err := t.search(s, p11.CKO_PUBLIC_KEY, q)
	if err != nil {
		return nil, err
	}
	var own []p11.ObjectHandle
	for _, o := range found {
		public, err := t.readPublic(s, o)
		if code(err) != p11.CKR_OK && !deadHandle(err) {
			return nil, fmt.Errorf("read public key %s: %w", q, err)
		}
		if err != nil || samePublic(public, k.public) {
			own = append(own, o)
		}
	}
	return own, nil
}
