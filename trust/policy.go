package trust

import "errors"

// Policy is what the officers ask of the gateways of an environment (policy.json).
type Policy struct {
	// Format is 1.
	Format int `json:"format"`
	// Environment repeats the repository's.
	Environment string `json:"environment"`
	// KeyTypes are the device key types admitted: "P-256", "P-384", "P-521", "Ed25519", "RSA".
	KeyTypes []string `json:"key_types"`
	// MinRSABits is the least RSA modulus, at least 2048.
	MinRSABits int `json:"min_rsa_bits"`
	// RequireCRL refuses a chain with a CA (but the device's own issuer's CRL counts too) that has no current CRL.
	RequireCRL bool `json:"require_crl"`
}

// DefaultPolicy admits every key type, RSA from 2048 bits, and does not ask for a CRL of every CA.
func DefaultPolicy(environment string) Policy {
	return Policy{Format: 1, Environment: environment, KeyTypes: []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"}, MinRSABits: 2048}
}

// ParsePolicy reads policy.json: unknown or duplicate keys, unknown key types and other environments' names are refused.
func ParsePolicy(data []byte) (Policy, error) { return Policy{}, errors.New("not implemented") }
