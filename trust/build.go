package trust

import (
	"crypto"
	"errors"
	"time"
)

// Prepared is an offline half that has passed every check and lacks only its signatures.
type Prepared struct {
	files map[string][]byte
}

// Prepare checks the content, the keys and the dates, and that they follow prev (nil for a new environment), and lays
// out the offline half. Nothing is signed and no token is touched. The result is a function of its arguments.
func Prepare(prev *Repository, c Content, k Keys, v Validity, now time.Time) (*Prepared, error) {
	return nil, errors.New("not implemented")
}

// Digests are the SHA-256 of the bytes that each signature will be over (canonical JSON of "signed"), by path.
func (p *Prepared) Digests() map[string][32]byte { return nil }

// Sign makes the signatures with those of the signers that a role names, checks each one and every threshold, reopens
// the result as OpenRepository would, and returns the files of the offline half by slash-separated path
// ("metadata/1.root.json", "targets/HASH.policy.json", ...). A root that replaces another needs signers of both.
func (p *Prepared) Sign(signers ...crypto.Signer) (map[string][]byte, error) {
	return nil, errors.New("not implemented")
}

// Build is Prepare and Sign in one.
func Build(prev *Repository, c Content, k Keys, v Validity, now time.Time, signers ...crypto.Signer) (map[string][]byte, error) {
	p, err := Prepare(prev, c, k, v, now)
	if err != nil {
		return nil, err
	}
	return p.Sign(signers...)
}
