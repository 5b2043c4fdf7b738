package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"slices"

	"github.com/hanaper/hanaper/internal/strict"
)

// Policy is what the officers ask of the gateways of an environment (policy.json).
type Policy struct {
	// Format is 1.
	Format int `json:"format"`
	// Environment repeats the repository's.
	Environment string `json:"environment"`
	// KeyTypes are the device key types admitted: "P-256", "P-384", "P-521", "Ed25519", "RSA".
	KeyTypes []string `json:"key_types"`
	// MinRSABits is the least RSA modulus, 2048 to 4096.
	MinRSABits int `json:"min_rsa_bits"`
	// RequireCRL refuses a device unless every CA above its certificate, its own issuer included, has a CRL in the view.
	RequireCRL bool `json:"require_crl"`
}

var keyTypes = []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"}

// DefaultPolicy admits every key type, RSA from 2048 bits, and does not ask for a CRL of every CA.
func DefaultPolicy(environment string) Policy {
	return Policy{Format: 1, Environment: environment, KeyTypes: slices.Clone(keyTypes), MinRSABits: 2048}
}

// ParsePolicy reads policy.json: unknown or duplicate keys, unknown key types and repeated ones are refused.
func ParsePolicy(data []byte) (Policy, error) {
	if len(data) > MaxPolicySize {
		return Policy{}, usage("", "%s is larger than %d bytes", policyTarget, MaxPolicySize)
	}
	var p Policy
	if err := strict.JSON(policyTarget, data, &p); err != nil {
		return Policy{}, err
	}
	return p, p.check()
}

func (p Policy) check() error {
	if p.Format != 1 {
		return usage("use a release that knows this format", "%s: format %d is unknown", policyTarget, p.Format)
	}
	if err := CheckEnvironment(p.Environment); err != nil {
		return err
	}
	if len(p.KeyTypes) == 0 {
		return usage("list the key types that devices may have", "%s: key_types is empty: no device could be admitted", policyTarget)
	}
	for i, t := range p.KeyTypes {
		if !slices.Contains(keyTypes, t) {
			return usage("known are P-256, P-384, P-521, Ed25519 and RSA", "%s: key type %q is unknown", policyTarget, t)
		}
		if slices.Contains(p.KeyTypes[:i], t) {
			return usage("name each key type once", "%s: key type %q stands twice", policyTarget, t)
		}
	}
	if p.MinRSABits < 2048 || p.MinRSABits > 4096 {
		return usage("2048 to 4096", "%s: min_rsa_bits is %d", policyTarget, p.MinRSABits)
	}
	return nil
}

// AllowsKey says whether the policy admits a device with this public key.
func (p Policy) AllowsKey(pub crypto.PublicKey) bool {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return slices.Contains(p.KeyTypes, k.Curve.Params().Name)
	case ed25519.PublicKey:
		return slices.Contains(p.KeyTypes, "Ed25519")
	case *rsa.PublicKey:
		return slices.Contains(p.KeyTypes, "RSA") && k.N.BitLen() >= p.MinRSABits
	}
	return false
}

func (p Policy) marshal() ([]byte, error) { return json.MarshalIndent(p, "", "  ") }

func (p Policy) clone() Policy {
	p.KeyTypes = slices.Clone(p.KeyTypes)
	return p
}
