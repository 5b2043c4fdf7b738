package pkcs11

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// maxObjects bounds a search; a token with more private keys than this is not listed in one go.
const maxObjects = 10000

func attr(kind uint, value any) *p11.Attribute { return p11.NewAttribute(kind, value) }

// search finds the objects of a class that a query names. No private key is an answer only of a session that is logged in: one
// logged out behind our back would see none either.
func (t *Token) search(s session, class uint, q hsm.Query) ([]p11.ObjectHandle, error) {
	template := []*p11.Attribute{attr(p11.CKA_CLASS, class)}
	if q.Label != "" {
		template = append(template, attr(p11.CKA_LABEL, q.Label))
	}
	if len(q.ID) > 0 {
		template = append(template, attr(p11.CKA_ID, q.ID))
	}
	found, err := t.match(s, template)
	if err == nil && len(found) == 0 && q.Label != "" {
		found, err = t.searchPadded(s, class, q)
	}
	if err == nil && len(found) == 0 && class == p11.CKO_PRIVATE_KEY && !t.public && t.Info().LoginRequired {
		state, err := t.m.ctx.GetSessionInfo(s.h)
		if err != nil {
			return nil, err
		}
		if !userState(state.State) && state.State != p11.CKS_RW_SO_FUNCTIONS {
			return nil, p11.Error(p11.CKR_USER_NOT_LOGGED_IN)
		}
	}
	return found, err
}

// searchPadded is for tokens that pad labels with NUL: they find no object by the label that it was given. All objects of the class
// are looked at.
func (t *Token) searchPadded(s session, class uint, q hsm.Query) ([]p11.ObjectHandle, error) {
	template := []*p11.Attribute{attr(p11.CKA_CLASS, class)}
	if len(q.ID) > 0 {
		template = append(template, attr(p11.CKA_ID, q.ID))
	}
	all, err := t.match(s, template)
	if err != nil {
		return nil, err
	}
	var found []p11.ObjectHandle
	for _, o := range all {
		v, err := t.attributes(s, o, p11.CKA_LABEL)
		if deadHandle(err) {
			continue // destroyed since it was found
		}
		if err != nil {
			return nil, err
		}
		if label(v[p11.CKA_LABEL]) == q.Label {
			found = append(found, o)
		}
	}
	return found, nil
}

// label is an object's label without the NULs with which some tokens pad it.
func label(v []byte) string { return strings.TrimRight(string(v), "\x00") }

// userState says whether a session is logged in as the user.
func userState(state uint) bool {
	return state == p11.CKS_RW_USER_FUNCTIONS || state == p11.CKS_RO_USER_FUNCTIONS
}

// match finds the objects that have all attributes of a template. The search is closed in any case: PKCS#11 has one at a time in a session,
// and the next would be refused with CKR_OPERATION_ACTIVE.
func (t *Token) match(s session, template []*p11.Attribute) ([]p11.ObjectHandle, error) {
	c := t.m.ctx
	if err := c.FindObjectsInit(s.h, template); err != nil {
		return nil, err
	}
	var all []p11.ObjectHandle
	for len(all) < maxObjects {
		some, _, err := c.FindObjects(s.h, 100)
		if err != nil {
			_ = c.FindObjectsFinal(s.h)
			return nil, err
		}
		if len(some) == 0 {
			break
		}
		all = append(all, some...)
	}
	return all, c.FindObjectsFinal(s.h)
}

// attributes reads some attributes of an object; one that the token does not have is absent from the answer. miekg's
// GetAttributeValue fails as a whole where one is missing, hence the second round one by one.
func (t *Token) attributes(s session, o p11.ObjectHandle, kinds ...uint) (map[uint][]byte, error) {
	out := make(map[uint][]byte, len(kinds))
	var template []*p11.Attribute
	for _, k := range kinds {
		template = append(template, attr(k, nil))
	}
	got, err := t.m.ctx.GetAttributeValue(s.h, o, template)
	if err == nil {
		for _, a := range got {
			out[a.Type] = a.Value
		}
		return out, nil
	}
	if !missing(err) {
		return nil, err
	}
	for _, k := range kinds {
		got, err := t.m.ctx.GetAttributeValue(s.h, o, []*p11.Attribute{attr(k, nil)})
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[k] = got[0].Value
	}
	return out, nil
}

// missing is for answers that say that an object does not have an attribute, or does not show it.
func missing(err error) bool {
	c := code(err)
	return c == p11.CKR_ATTRIBUTE_TYPE_INVALID || c == p11.CKR_ATTRIBUTE_SENSITIVE || c == p11.CKR_ATTRIBUTE_VALUE_INVALID
}

func isTrue(v []byte) bool { return len(v) == 1 && v[0] != 0 }

// number reads a CK_ULONG in the machine's order and size; ckUnavailable where there is none.
func number(v []byte) uint {
	switch len(v) {
	case 8:
		return uint(binary.NativeEndian.Uint64(v))
	case 4:
		return uint(binary.NativeEndian.Uint32(v))
	}
	return ckUnavailable
}

var privateKinds = []uint{
	p11.CKA_LABEL, p11.CKA_ID, p11.CKA_KEY_TYPE, p11.CKA_TOKEN, p11.CKA_PRIVATE, p11.CKA_SENSITIVE, p11.CKA_ALWAYS_SENSITIVE,
	p11.CKA_EXTRACTABLE, p11.CKA_NEVER_EXTRACTABLE, p11.CKA_LOCAL, p11.CKA_SIGN, p11.CKA_DECRYPT, p11.CKA_DERIVE, p11.CKA_UNWRAP,
	p11.CKA_WRAP_WITH_TRUSTED, p11.CKA_ALWAYS_AUTHENTICATE, p11.CKA_MODIFIABLE,
}

// readPrivate reads a private key's attributes. One that the token does not know counts as false, but for EXTRACTABLE, which then counts as
// true: silence is no protection.
func (t *Token) readPrivate(s session, o p11.ObjectHandle) (hsm.Attributes, error) {
	v, err := t.attributes(s, o, privateKinds...)
	if err != nil {
		return hsm.Attributes{}, err
	}
	extractable, told := v[p11.CKA_EXTRACTABLE]
	return hsm.Attributes{
		Label: label(v[p11.CKA_LABEL]), ID: v[p11.CKA_ID],
		Token: isTrue(v[p11.CKA_TOKEN]), Private: isTrue(v[p11.CKA_PRIVATE]),
		Sensitive: isTrue(v[p11.CKA_SENSITIVE]), AlwaysSensitive: isTrue(v[p11.CKA_ALWAYS_SENSITIVE]),
		Extractable: !told || isTrue(extractable), NeverExtractable: isTrue(v[p11.CKA_NEVER_EXTRACTABLE]),
		Local: isTrue(v[p11.CKA_LOCAL]), Sign: isTrue(v[p11.CKA_SIGN]), Decrypt: isTrue(v[p11.CKA_DECRYPT]), Derive: isTrue(v[p11.CKA_DERIVE]),
		Unwrap: isTrue(v[p11.CKA_UNWRAP]), WrapWithTrusted: isTrue(v[p11.CKA_WRAP_WITH_TRUSTED]),
		AlwaysAuthenticate: isTrue(v[p11.CKA_ALWAYS_AUTHENTICATE]), Modifiable: isTrue(v[p11.CKA_MODIFIABLE]),
	}, nil
}

// checkPublic compares a fresh public key's attributes with what was asked: one that can wrap would let anybody try
// to carry other keys out, and a trusted one is for the security officer to make.
func (t *Token) checkPublic(s session, o p11.ObjectHandle, private hsm.Attributes) error {
	v, err := t.attributes(s, o, p11.CKA_LABEL, p11.CKA_ID, p11.CKA_TOKEN, p11.CKA_WRAP, p11.CKA_TRUSTED, p11.CKA_PRIVATE)
	if err != nil {
		return err
	}
	switch {
	case label(v[p11.CKA_LABEL]) != private.Label || !bytes.Equal(v[p11.CKA_ID], private.ID):
		return fmt.Errorf("%w: the public key's label or id is not the private key's", hsm.ErrAttributes)
	case !isTrue(v[p11.CKA_TOKEN]):
		return fmt.Errorf("%w: the public key's CKA_TOKEN is false", hsm.ErrAttributes)
	case isTrue(v[p11.CKA_WRAP]), isTrue(v[p11.CKA_TRUSTED]):
		return fmt.Errorf("%w: the public key's CKA_WRAP or CKA_TRUSTED is true", hsm.ErrAttributes)
	}
	return nil
}
