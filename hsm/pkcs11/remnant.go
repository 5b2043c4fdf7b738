package pkcs11

import (
	"context"
	"errors"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// ClearRemnant destroys the public key of this label and id where the token holds no private key of that id: what is left
// of a pair whose making or destruction was cut short between the two (SoftHSM writes one after the other). It says
// whether there was one. Label and id must both be given.
func (t *Token) ClearRemnant(ctx context.Context, q hsm.Query) (found bool, err error) {
	if q.Label == "" || len(q.ID) == 0 {
		return false, t.fail(errors.New("a remnant is named by label and id"), "clear %s", q)
	}
	err = t.do(ctx, func(s session) error {
		private, err := t.search(s, p11.CKO_PRIVATE_KEY, hsm.Query{ID: q.ID})
		if err != nil || len(private) > 0 {
			return err
		}
		publics, err := t.search(s, p11.CKO_PUBLIC_KEY, q)
		if err != nil {
			return err
		}
		for _, o := range publics {
			if err := t.m.ctx.DestroyObject(s.h, o); err != nil {
				return err
			}
			found = true
		}
		return nil
	})
	return found, t.fail(err, "clear %s", q)
}
