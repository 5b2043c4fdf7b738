package order

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// Signed is an order with what is known of its signatures.
type Signed struct {
	Order *Order
	// Digest is the order's name: the SHA-256 of what was signed.
	Digest   [32]byte
	Envelope []byte
	// By are those who signed, as "operator olga" or "officer ada"; empty where nobody was verified.
	By []string
}

// Unverified reads a signed order without asking who signed it: to show it, or to sign it too.
func Unverified(env []byte) (*Signed, error) {
	payload, err := quorum.UnverifiedPayload(env, PayloadType)
	if err != nil {
		return nil, err
	}
	return read(env, payload)
}

func read(env, payload []byte, by ...string) (*Signed, error) {
	o, err := Parse(payload)
	if err != nil {
		return nil, err
	}
	return &Signed{Order: o, Digest: Digest(payload), Envelope: slices.Clone(env), By: by}, nil
}

// Sign signs an order, as Encode wrote it or as it was signed by others already. An order with a certificate is signed by that certificate's key, and by
// no other.
func Sign(data []byte, key crypto.Signer) ([]byte, error) {
	before, err := Unverified(data)
	payload := data
	if err == nil {
		if payload, err = quorum.UnverifiedPayload(data, PayloadType); err != nil {
			return nil, err
		}
	}
	o, err := Parse(payload)
	if err != nil {
		return nil, err
	}
	chain, err := o.Chain()
	if err != nil {
		return nil, err
	}
	if len(chain) > 0 && (before != nil || !sameKey(chain[0].PublicKey, key.Public())) {
		return nil, advice.New(advice.Refused, "make the order with the certificate of the key that signs it, or without one where officers sign",
			"the order is to be signed by the key of %q alone", chain[0].Subject.CommonName)
	}
	env, err := quorum.SignDSSE(PayloadType, payload, key)
	if err != nil || before == nil {
		return env, err
	}
	return quorum.JoinDSSE(PayloadType, before.Envelope, env)
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// ByOperator verifies an order that an operator signed. who looks at the certificate, which the order brings along, and tells whose it is: nothing else of
// the order is used before.
func ByOperator(env []byte, who func(chain []*x509.Certificate) (name string, err error)) (*Signed, error) {
	claimed, err := Unverified(env)
	if err != nil {
		return nil, err
	}
	chain, err := claimed.Order.Chain()
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, advice.New(advice.Refused, "make the order with the certificate of the operator who signs it", "the order names no operator's certificate")
	}
	name, err := who(chain)
	if err != nil {
		return nil, err
	}
	payload, err := quorum.VerifyDSSEKey(env, PayloadType, chain[0].PublicKey)
	if err != nil {
		return nil, err
	}
	return read(env, payload, "operator "+name)
}

// ByOfficers verifies an order that at least threshold distinct officers of a roster signed.
func ByOfficers(env []byte, roster *quorum.Roster, threshold int) (*Signed, error) {
	payload, signers, err := quorum.VerifyDSSE(env, PayloadType, roster, threshold)
	if err != nil {
		return nil, err
	}
	var by []string
	for _, o := range signers {
		if o.Role == quorum.RoleOfficer {
			by = append(by, "officer "+o.Name)
		}
	}
	s, err := read(env, payload, by...)
	if err != nil {
		return nil, err
	}
	if s.Order.Certificate != "" {
		return nil, fmt.Errorf("%w: it names the certificate of one operator, and officers sign orders here", quorum.ErrSignature)
	}
	if s.Order.Environment != roster.Environment() {
		return nil, advice.New(advice.Refused, "order for the environment that the officers are of", "the order is for environment %s, and the roster is that of %s", show.Text(s.Order.Environment), show.Text(roster.Environment()))
	}
	return s, nil
}

// KeyIDs are the ids of the keys that an envelope says it was signed by, unverified.
func KeyIDs(env []byte) ([]string, error) { return quorum.UnverifiedKeyIDs(env, PayloadType) }
