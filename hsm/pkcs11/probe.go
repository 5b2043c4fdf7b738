package pkcs11

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// A module that made a key otherwise than it was asked may still report what was asked. So the attributes are not only read: this
// file tries to take the key out, in the two ways in which a key leaves a token, and the token must refuse both.
//
//   - Its secret values are asked for (CKA_VALUE; of an RSA key the private exponent and the primes).
//   - It is wrapped, in each way that the token lists and that needs nothing but an AES key: under an AES key that is made for it as
//     a session object, and under every AES wrapping key that lies in the token. A key of class backup or restored-backup may leave under a wrapping key
//     that the security officer marked trusted (CKA_TRUSTED), for that is what it is for: those are left out, and nothing
//     shows that it leaves under them alone except that the others are refused.
//
// A token that makes no AES keys and wraps in none of these ways is asked for the values only. What is not tried: wrapping under an RSA key,
// derivation from the key, copies of it (C_CopyObject), and whatever a vendor has besides. A module that is written to deceive knows
// these questions and can answer them as an honest one does; what is found is a module, or a setting of it, that is wrong.

// The answers that say no. CKR_ATTRIBUTE_TYPE_INVALID says that the object has no such value to give.
func saysUnreadable(err error) bool {
	switch code(err) {
	case p11.CKR_ATTRIBUTE_SENSITIVE, p11.CKR_ATTRIBUTE_TYPE_INVALID, ckrActionProhibited:
		return true
	}
	return false
}

// saysUnwrappable: CKR_KEY_NOT_WRAPPABLE is what the standard has for a key that is extractable, and still not wrapped in this way: the
// right answer for one of class backup, and for any other a sign that it is not what it claims to be. (SoftHSM answers so for an Ed25519
// key that is extractable, and CKR_KEY_UNEXTRACTABLE for one that is not.)
func saysUnwrappable(err error, class hsm.Class) bool {
	switch code(err) {
	case p11.CKR_KEY_UNEXTRACTABLE, p11.CKR_KEY_FUNCTION_NOT_PERMITTED, ckrActionProhibited:
		return true
	case p11.CKR_KEY_NOT_WRAPPABLE:
		return class.Wrappable()
	}
	return false
}

// saysNotThisWay is for answers about the mechanism, which say nothing about the key.
func saysNotThisWay(err error) bool {
	switch code(err) {
	case p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_FUNCTION_NOT_SUPPORTED, p11.CKR_KEY_SIZE_RANGE,
		p11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT, p11.CKR_WRAPPING_KEY_SIZE_RANGE, p11.CKR_WRAPPING_KEY_HANDLE_INVALID:
		return true
	}
	return false
}

// probe tries to take a private key out of the token, and says how it came out if it did. Any answer but a clear no is an error.
func (t *Token) probe(s session, o p11.ObjectHandle, a hsm.Attributes, class hsm.Class) error {
	return errors.Join(t.probeRead(s, o, a), t.probeWrap(s, o, class))
}

// probeRead asks for the key's secret values, and wipes what it gets.
func (t *Token) probeRead(s session, o p11.ObjectHandle, a hsm.Attributes) error {
	secrets := []uint{p11.CKA_VALUE}
	if kinds[a.Algorithm].family == familyRSA {
		secrets = []uint{p11.CKA_PRIVATE_EXPONENT, p11.CKA_PRIME_1, p11.CKA_PRIME_2}
	}
	for _, kind := range secrets {
		got, err := t.m.ctx.GetAttributeValue(s.h, o, []*p11.Attribute{attr(kind, nil)})
		for _, v := range got {
			clear(v.Value)
		}
		switch {
		case err == nil:
			return fmt.Errorf("%w: its secret value (attribute 0x%x) can be read, whatever the token says of CKA_SENSITIVE", hsm.ErrAttributes, kind)
		case !saysUnreadable(err):
			return fmt.Errorf("asked for the key's secret value (attribute 0x%x), which it must refuse, the token answered otherwise: %w", kind, err)
		}
	}
	return nil
}

// wrappings are the ways of wrapping that need an AES key and no more than an IV.
var wrappings = []struct {
	mechanism uint
	parameter []byte
}{{ckmAESKeyWrapPad, nil}, {ckmAESKeyWrapKWP, nil}, {p11.CKM_AES_KEY_WRAP, nil}, {p11.CKM_AES_CBC_PAD, make([]byte, 16)}, {p11.CKM_AES_CBC, make([]byte, 16)}}

// probeWrap tries to wrap the key in each way and under each key that there is to try.
func (t *Token) probeWrap(s session, o p11.ObjectHandle, class hsm.Class) error {
	keys, err := t.wrappingKeys(s, class.Wrappable())
	if err != nil {
		return fmt.Errorf("look for wrapping keys to try: %w", err)
	}
	if own, err := t.ownWrappingKey(s); err != nil {
		return fmt.Errorf("make a wrapping key to try: %w", err)
	} else if own != 0 {
		keys = append(keys, own)
		defer t.m.ctx.DestroyObject(s.h, own) //nolint:errcheck // a session object: it goes with the session
	}
	for _, key := range keys {
		for _, w := range wrappings {
			if !t.can(w.mechanism, p11.CKF_WRAP) {
				continue
			}
			wrapped, err := t.m.ctx.WrapKey(s.h, []*p11.Mechanism{p11.NewMechanism(w.mechanism, w.parameter)}, key, o)
			clear(wrapped)
			switch {
			case err == nil:
				return fmt.Errorf("%w: it can be wrapped (%s), whatever the token says of CKA_EXTRACTABLE and CKA_WRAP_WITH_TRUSTED", hsm.ErrAttributes, mechanismName(w.mechanism))
			case code(err) == p11.CKR_KEY_NOT_WRAPPABLE && !class.Wrappable():
				return fmt.Errorf("%w: asked to wrap it (%s), the token answered CKR_KEY_NOT_WRAPPABLE, which is what it says of a key that is extractable, not CKR_KEY_UNEXTRACTABLE", hsm.ErrAttributes, mechanismName(w.mechanism))
			case !saysUnwrappable(err, class) && !saysNotThisWay(err):
				return fmt.Errorf("asked to wrap the key (%s), which it must refuse, the token answered otherwise: %w", mechanismName(w.mechanism), err)
			}
		}
	}
	return nil
}

// ownWrappingKey makes an AES key that wraps, as a session object; 0 if the token makes none. It is of no worth to anybody: nothing
// that it wraps is kept.
func (t *Token) ownWrappingKey(s session) (p11.ObjectHandle, error) {
	if !t.can(p11.CKM_AES_KEY_GEN, p11.CKF_GENERATE) {
		return 0, nil
	}
	key, err := t.m.ctx.GenerateKey(s.h, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, false), attr(p11.CKA_WRAP, true), attr(p11.CKA_VALUE_LEN, 32),
	})
	if err != nil && (saysNotThisWay(err) || refusesTemplate(err)) {
		return 0, nil
	}
	return key, err
}

// refusesTemplate is for tokens that make no such key: then none is tried, and the attributes are all there is.
func refusesTemplate(err error) bool {
	switch code(err) {
	case p11.CKR_ATTRIBUTE_VALUE_INVALID, p11.CKR_ATTRIBUTE_TYPE_INVALID, p11.CKR_ATTRIBUTE_READ_ONLY, p11.CKR_TEMPLATE_INCOMPLETE, p11.CKR_TEMPLATE_INCONSISTENT:
		return true
	}
	return false
}

// wrappingKeys are the AES keys in the token that wrap, without those that are trusted if untrusted is true.
func (t *Token) wrappingKeys(s session, untrusted bool) ([]p11.ObjectHandle, error) {
	found, err := t.match(s, []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_WRAP, true)})
	if err != nil || !untrusted {
		return found, err
	}
	var keys []p11.ObjectHandle
	for _, o := range found {
		v, err := t.attributes(s, o, p11.CKA_TRUSTED)
		if err != nil {
			return nil, err
		}
		if !isTrue(v[p11.CKA_TRUSTED]) {
			keys = append(keys, o)
		}
	}
	return keys, nil
}

// confirm looks for a fresh pair again, in another session than the one that made it, which is closed by now: it must be there, both
// halves, once each. What was made as a session object is gone.
func (t *Token) confirm(ctx context.Context, k *Key) error {
	q := hsm.Query{Label: k.attributes.Label, ID: k.attributes.ID}
	t.m.setGone(t.Info(), q, false)
	return t.do(ctx, func(s session) error {
		for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY} {
			// By the label alone and by the id alone: a second pair may share one of them only.
			for _, by := range []hsm.Query{{Label: q.Label}, {ID: q.ID}} {
				found, err := t.search(s, class, by)
				switch {
				case err != nil:
					return err
				case len(found) == 0:
					return fmt.Errorf("%w: the %s is gone with the session that made it: it was a session object", hsm.ErrAttributes, className(class))
				case len(found) > 1:
					return fmt.Errorf("%ss %s: the token made %d of them: %w", className(class), by, len(found), hsm.ErrAmbiguous)
				}
				if class == p11.CKO_PRIVATE_KEY {
					k.mu.Lock()
					k.handle, k.epoch, k.before = found[0], s.epoch, t.m.destroyed.Load()
					k.mu.Unlock()
				}
			}
		}
		return nil
	})
}
