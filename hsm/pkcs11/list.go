package pkcs11

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// Keys lists the private keys that can be used. KeyObjects lists the others too.
func (t *Token) Keys(ctx context.Context) ([]hsm.Key, error) {
	objects, err := t.KeyObjects(ctx)
	if err != nil {
		return nil, err
	}
	var keys []hsm.Key
	for _, o := range objects {
		if o.Key != nil {
			keys = append(keys, o.Key)
		}
	}
	return keys, nil
}

// KeyObject is a key in a token: a private key, or one that stands for itself (a public key without a private one, a secret key).
type KeyObject struct {
	// Kind is "private key", "public key" or "secret key".
	Kind       string
	Attributes hsm.Attributes
	// Key is nil for a key that cannot be used here, and NotUsable then says why.
	Key       hsm.Key
	NotUsable string
}

// KeyObjects lists every private key, every secret key, and every public key that belongs to no private key of the list, also those
// that cannot be used, with the reason.
func (t *Token) KeyObjects(ctx context.Context) ([]KeyObject, error) {
	var all []KeyObject
	err := t.do(ctx, func(s session) error {
		all = nil
		if err := t.each(s, p11.CKO_PRIVATE_KEY, func(o p11.ObjectHandle) error {
			k, err := t.read(s, o)
			if err == nil {
				all = append(all, KeyObject{Kind: "private key", Attributes: k.Attributes(), Key: k})
				return nil
			}
			return t.unusable(s, o, &all, p11.CKO_PRIVATE_KEY, err)
		}); err != nil {
			return err
		}
		used := map[string]bool{}
		for _, k := range all {
			if k.Key != nil {
				used[publicText(k.Key.Public())] = true
			}
		}
		if err := t.each(s, p11.CKO_PUBLIC_KEY, func(o p11.ObjectHandle) error {
			pub, err := t.readPublic(s, o)
			switch {
			case err == nil && used[publicText(pub)]:
				return nil
			case err == nil:
				err = errors.New("no private key belongs to it")
				if t.public {
					err = errors.New("whether a private key belongs to it shows only after a login")
				}
			}
			return t.unusable(s, o, &all, p11.CKO_PUBLIC_KEY, err)
		}); err != nil {
			return err
		}
		return t.each(s, p11.CKO_SECRET_KEY, func(o p11.ObjectHandle) error {
			return t.unusable(s, o, &all, p11.CKO_SECRET_KEY, t.secretUse(s, o))
		})
	})
	return all, t.fail(err, "list keys")
}

func publicText(pub crypto.PublicKey) string { return fmt.Sprintf("%T %v", pub, pub) }

// each runs f on every object of a class, and leaves out one that was destroyed since it was found.
func (t *Token) each(s session, class uint, f func(o p11.ObjectHandle) error) error {
	found, err := t.search(s, class, hsm.Query{})
	if err != nil {
		return err
	}
	for _, o := range found {
		if err := f(o); err != nil && !deadHandle(err) {
			return err
		}
	}
	return nil
}

// unusable adds an object with the reason why it is not used. An error that means that the token went away, or that the object
// did, is handed on; but a token that goes on answering is not gone, it has trouble with this key.
func (t *Token) unusable(s session, o p11.ObjectHandle, all *[]KeyObject, class uint, why error) error {
	if deadHandle(why) || lost(why) && !sick(why) {
		return why
	}
	a, err := t.readPrivate(s, o)
	if lost(err) || deadHandle(err) {
		return err
	}
	if err != nil {
		why = err
	}
	if class != p11.CKO_PRIVATE_KEY {
		a = hsm.Attributes{Label: a.Label, ID: a.ID, Token: a.Token, Private: a.Private, Sensitive: a.Sensitive, Extractable: class == p11.CKO_SECRET_KEY && a.Extractable, Local: a.Local}
	}
	*all = append(*all, KeyObject{Kind: className(class), Attributes: a, NotUsable: why.Error()})
	return nil
}

// secretUse says what a secret key is, for it is never used by itself.
func (t *Token) secretUse(s session, o p11.ObjectHandle) error {
	v, err := t.attributes(s, o, p11.CKA_KEY_TYPE, p11.CKA_WRAP, p11.CKA_TRUSTED)
	switch {
	case err != nil:
		return err
	case number(v[p11.CKA_KEY_TYPE]) == p11.CKK_AES && isTrue(v[p11.CKA_WRAP]) && isTrue(v[p11.CKA_TRUSTED]):
		return errors.New("an AES key that wraps others, trusted: destroy it if no backup is under way")
	case isTrue(v[p11.CKA_WRAP]):
		return errors.New("a key that wraps others and is not trusted: what is it for?")
	}
	return fmt.Errorf("a secret key (type 0x%s)", hex.EncodeToString(v[p11.CKA_KEY_TYPE]))
}
