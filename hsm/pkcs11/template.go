package pkcs11

import (
	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// templates are what the token is asked for: the attributes of the class, each use said outright, granted or denied. id is the pair's
// CKA_ID, at least for the beginning.
func templates(spec hsm.GenerateSpec, id []byte, kind kind) (public, private []*p11.Attribute) {
	public = []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), attr(p11.CKA_KEY_TYPE, kind.keyType), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, false),
		attr(p11.CKA_LABEL, spec.Label), attr(p11.CKA_ID, id),
		attr(p11.CKA_VERIFY, spec.Use == hsm.Signing), attr(p11.CKA_ENCRYPT, spec.Use == hsm.Decryption), attr(p11.CKA_WRAP, false),
	}
	// CKA_SENSITIVE and CKA_EXTRACTABLE make the class; ALWAYS_SENSITIVE, NEVER_EXTRACTABLE and LOCAL follow from them and are the
	// token's to say (inspect reads them).
	private = []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), attr(p11.CKA_KEY_TYPE, kind.keyType), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_LABEL, spec.Label), attr(p11.CKA_ID, id),
		attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, spec.Class == hsm.Backup),
		attr(p11.CKA_SIGN, spec.Use == hsm.Signing), attr(p11.CKA_DECRYPT, spec.Use == hsm.Decryption), attr(p11.CKA_DERIVE, spec.Use == hsm.Agreement), attr(p11.CKA_UNWRAP, false),
	}
	if spec.Class == hsm.Backup {
		private = append(private, attr(p11.CKA_WRAP_WITH_TRUSTED, true))
	}
	if kind.family == familyRSA {
		public = append(public, attr(p11.CKA_MODULUS_BITS, kind.bits), attr(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	}
	return public, private
}

// generatePair tries each way in which tokens want the curve written, and, for tokens that stumble over a use that is denied
// (tpm2-pkcs11), once more with only what is granted. What came out is read back in either case.
func (t *Token) generatePair(s session, spec hsm.GenerateSpec, kind kind, public, private []*p11.Attribute) (pub, priv p11.ObjectHandle, err error) {
	mechanism := []*p11.Mechanism{p11.NewMechanism(kind.generate, nil)}
	variants := kind.params
	if kind.family == familyRSA {
		variants = [][]byte{nil}
	}
	for _, sparse := range []bool{false, true} {
		if sparse {
			public, private = withoutDenied(public), withoutDenied(private)
		} else if t.m.sparse.Load() {
			continue
		}
		for _, params := range variants {
			if err != nil {
				// A failed try must have left nothing behind.
				if err := t.refuseExisting(s, hsm.Query{Label: spec.Label}); err != nil {
					return 0, 0, err
				}
			}
			template := public[:len(public):len(public)]
			if params != nil {
				template = append(template, attr(p11.CKA_EC_PARAMS, params))
			}
			pub, priv, err = t.m.ctx.GenerateKeyPair(s.h, mechanism, template, private)
			// Each of these is how some token says that it wants the template otherwise; anything else is the answer.
			switch code(err) {
			case p11.CKR_ATTRIBUTE_VALUE_INVALID, p11.CKR_DOMAIN_PARAMS_INVALID, p11.CKR_TEMPLATE_INCONSISTENT, p11.CKR_CURVE_NOT_SUPPORTED,
				p11.CKR_ATTRIBUTE_TYPE_INVALID, p11.CKR_GENERAL_ERROR:
				continue
			}
			return pub, priv, err
		}
	}
	return pub, priv, err
}

// withoutDenied leaves out the uses that a template denies.
func withoutDenied(template []*p11.Attribute) []*p11.Attribute {
	var out []*p11.Attribute
	for _, a := range template {
		switch a.Type {
		case p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_SIGN, p11.CKA_VERIFY, p11.CKA_DERIVE:
			if !isTrue(a.Value) {
				continue
			}
		}
		out = append(out, a)
	}
	return out
}
