package trust

import (
	"crypto"
	"crypto/sha256"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// signers are the keys of one role, and how many of them must sign.
type signers struct {
	ids       []string
	threshold int
	keys      map[string]crypto.PublicKey
	// logs says that the role may list checkpoints of logs: its metadata may be of format 2.
	logs bool
}

// openRole reads one role's document: in its one form, of the shape that check asks for, signed by enough of its
// signers, and of the roots' own environment. Whether it is expired, or older than it may be, others decide.
func openRole[T metadata.Roles](roots *chain, path string, raw []byte, by signers, check func(*metadata.Metadata[T]) error) (*metadata.Metadata[T], header, error) {
	m, head, err := parseMetadata[T](path, raw)
	if err != nil {
		return nil, head, err
	}
	if !by.logs {
		if err := head.onlyFormat(); err != nil {
			return nil, head, refuse(ErrMalformed, path, "%v", err)
		}
	}
	if err := check(m); err != nil {
		return nil, head, refuse(ErrMalformed, path, "%v", err)
	}
	if err := checkThreshold(path, m.Signed, m.Signatures, by.ids, by.threshold, by.keys); err != nil {
		return nil, head, err
	}
	if head.environment != roots.head.environment {
		return nil, head, refuse(ErrEnvironment, path, "%s, not %s", head.environment, roots.head.environment)
	}
	return m, head, nil
}

// readListed reads a file that another document lists, and holds it to the length and the hashes given there. Where the one held already, or nil, is
// that file, nothing is read.
func (r *reader) readListed(path string, listed *metadata.MetaFiles, held []byte) ([]byte, error) {
	if held != nil && listed.VerifyLengthHashes(held) == nil {
		r.seen[path] = sha256.Sum256(held)
		return held, nil
	}
	raw, err := r.read(path, listed.Length)
	if err != nil {
		return nil, mismatched(path, err)
	}
	if err := listed.VerifyLengthHashes(raw); err != nil {
		return nil, fromTUF(path, err)
	}
	return raw, nil
}
