package uptane

import (
	"crypto"
	"slices"
)

// SignJSON signs any JSON value in canonical form and returns {"signatures":[...],"signed":...}. It is for payloads
// that are not metadata; what claims to be metadata by its _type is refused unless it is well-formed metadata.
func SignJSON(data []byte, keys ...crypto.Signer) ([]byte, error) {
	v, err := parseJSON(data)
	if err != nil {
		return nil, refused(err)
	}
	if t, ok := v.get("_type"); ok {
		if err := checkClaim(t.str, data); err != nil {
			return nil, refused(err)
		}
	}
	message := v.append(nil)
	var list []Signature
	for _, signer := range keys {
		k, s, err := signMessage(signer, message)
		if err != nil {
			return nil, refused(err)
		}
		if slices.ContainsFunc(list, func(have Signature) bool { return have.KeyID == k.id }) {
			return nil, refused(because(ErrRepeatedKey, "key %s is given twice", k.id))
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		return nil, refused(because(ErrKeyType, "no key to sign with"))
	}
	return encode(message, sorted(list)), nil
}

func checkClaim(typ string, data []byte) error {
	// Sizes are those of an Image document: the payload says nothing about its repository.
	size := func(l Limits) int { return l.ImageTargets }
	switch typ {
	case "Root":
		_, err := ParseUnsignedRoot(data)
		return err
	case "Targets":
		_, err := ParseUnsignedTargets(Image, data)
		return err
	case "Snapshot", "Timestamp":
		_, err := openUnsigned(data, typ, size, nil)
		return err
	}
	return nil
}

// VerifyJSON checks a signed JSON value against keys that the caller trusts: each of them must have signed it. It
// returns the canonical form of the signed part.
func VerifyJSON(data []byte, keys ...Key) ([]byte, error) {
	b, err := verifyJSON(data, keys)
	return b, unverified(err)
}

func verifyJSON(data []byte, keys []Key) ([]byte, error) {
	v, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	r := reader{where: "signed JSON"}
	o := r.object(&v)
	sigs, body := r.member(o, "signatures"), r.member(o, "signed")
	r.only(o, "signatures", "signed")
	if r.err != nil {
		return nil, r.err
	}
	list, err := signaturesOf(sigs)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, because(ErrThreshold, "no key to verify with")
	}
	message := body.append(nil)
	for _, k := range keys {
		at := slices.IndexFunc(list, func(s Signature) bool { return s.KeyID == k.id })
		if at < 0 {
			return nil, because(ErrThreshold, "key %s has not signed", k.id)
		}
		if err := k.verify(message, list[at]); err != nil {
			return nil, err
		}
	}
	return message, nil
}
