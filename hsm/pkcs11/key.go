package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// Key is a private key in a token. It implements hsm.Key.
type Key struct {
	t          *Token
	attributes hsm.Attributes
	public     crypto.PublicKey

	mu     sync.Mutex
	handle p11.ObjectHandle
	epoch  uint64 // the login in which handle is valid
	before uint64 // how many keys had been destroyed when handle was found
	pss    map[pssShape]bool
}

var _ hsm.Key = (*Key)(nil)

func newKey(t *Token, a hsm.Attributes, public crypto.PublicKey) *Key {
	return &Key{t: t, attributes: a, public: public, pss: map[pssShape]bool{}}
}

// Public is the key's public half: *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Attributes are those read back when the key was found or generated.
func (k *Key) Attributes() hsm.Attributes {
	a := k.attributes
	a.ID = bytes.Clone(a.ID)
	return a
}

// Token describes the token that holds the key.
func (k *Key) Token() hsm.TokenInfo { return k.t.Info() }

// URI names the key by token label and serial, object label and id.
func (k *Key) URI() hsm.URI {
	u := k.t.Info().URI()
	u.Object, u.ID, u.Type = k.attributes.Label, bytes.Clone(k.attributes.ID), "private"
	u.ModulePath, u.InitReserved = k.t.m.path, k.t.m.reserved
	return u
}

// name is how messages name the key.
func (k *Key) name() string {
	return fmt.Sprintf("key %s", hsm.Query{Label: k.attributes.Label, ID: k.attributes.ID})
}

// Key finds exactly one private key.
func (t *Token) Key(ctx context.Context, q hsm.Query) (hsm.Key, error) {
	if q.Label == "" && len(q.ID) == 0 {
		return nil, advice.New(advice.Usage, "name the key by label or id", "%s: key %s", t.Info().Name(), q)
	}
	k, err := t.key(ctx, q)
	if err != nil {
		return nil, t.fail(err, "key %s", q)
	}
	return k, nil
}

// key is Key with the package's own type. That there is exactly one is asked of the token, not of what was found before.
func (t *Token) key(ctx context.Context, q hsm.Query) (*Key, error) {
	var key *Key
	err := t.do(ctx, func(s session) error {
		found, err := t.search(s, p11.CKO_PRIVATE_KEY, q)
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return t.noKey(s, q)
		case len(found) > 1:
			return advice.New(advice.Usage, "name it by label and id", "%s: private keys %s: %d of them: %w", t.Info().Name(), q, len(found), hsm.ErrAmbiguous)
		}
		key, err = t.read(s, found[0])
		return err
	})
	return key, err
}

// noKey says what is there instead.
func (t *Token) noKey(s session, q hsm.Query) error {
	hint := "`hanaper token show` lists the keys"
	if t.public {
		hint = "private keys show only after a login: give the PIN"
	}
	return advice.New(advice.Failed, hint, "%s: private key %s: %w", t.Info().Name(), q, hsm.ErrNoKey)
}

// read makes a Key of a private key object: its attributes, and its public half from wherever the token has it.
func (t *Token) read(s session, o p11.ObjectHandle) (*Key, error) {
	before := t.m.destroyed.Load()
	a, err := t.readPrivate(s, o)
	if err != nil {
		return nil, err
	}
	public, err := t.publicOf(s, o, a)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", hsm.Query{Label: a.Label, ID: a.ID}, err)
	}
	a.Algorithm = hsm.AlgorithmOf(public)
	k := newKey(t, a, public)
	k.handle, k.epoch, k.before = o, s.epoch, before
	return k, nil
}

// use runs f with the key's handle in a session, and finds the handle anew after a login or when the token says that it is dead.
// f must be harmless to run twice.
func (k *Key) use(ctx context.Context, f func(s session, o p11.ObjectHandle) error) error {
	return k.t.do(ctx, func(s session) error {
		o, fresh, err := k.locate(s, false)
		if err != nil {
			return err
		}
		err = f(s, o)
		if fresh || !deadHandle(err) {
			return err
		}
		if o, _, err = k.locate(s, true); err != nil {
			return err
		}
		return f(s, o)
	})
}

// locate gives the handle, and says whether it was found just now. After a new login the key must be the same as before.
func (k *Key) locate(s session, anew bool) (o p11.ObjectHandle, fresh bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.t.m.destroyed.Load()
	if k.epoch == s.epoch && k.before == before && !anew {
		return k.handle, false, nil
	}
	q := hsm.Query{Label: k.attributes.Label, ID: k.attributes.ID}
	found, err := k.t.search(s, p11.CKO_PRIVATE_KEY, q)
	switch {
	case err != nil:
		return 0, false, err
	case len(found) == 0:
		if k.t.m.isGone(k.t.Info(), q) {
			return 0, false, k.t.noKey(s, q)
		}
		return 0, false, fmt.Errorf("%w: %w", k.t.noKey(s, q), errVanished)
	case len(found) > 1:
		return 0, false, advice.New(advice.Failed, "destroy the one that does not belong there", "%s: private keys %s: %d of them: %w", k.t.Info().Name(), q, len(found), hsm.ErrAmbiguous)
	}
	now, err := k.t.read(s, found[0])
	if err != nil {
		return 0, false, err
	}
	if !samePublic(k.public, now.public) {
		return 0, false, advice.New(advice.Refused, "the token was changed while it was away: find out how", "%s: private key %s is another one than before", k.t.Info().Name(), q)
	}
	k.handle, k.epoch, k.before = found[0], s.epoch, before
	return k.handle, true, nil
}

// samePublic compares public keys, which all have Equal.
func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
