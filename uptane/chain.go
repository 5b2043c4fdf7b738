package uptane

import "time"

// VerifyRoot checks that a root is signed by its own threshold. It does not make the root trusted: only the caller
// knows, from elsewhere, that this is the root to start from.
func VerifyRoot(r *Root) error { return RootAuthority(nil, r).Verify(r) }

// VerifyNextRoot checks one step of a chain: the version is exactly one more, and the thresholds of both roots are
// met. It does not look at expiry, for only the last root of a chain must be valid now.
func VerifyNextRoot(prev, next *Root) error {
	if next.version != prev.version+1 {
		return unverified(because(ErrVersion, "root version %d cannot follow version %d: it must be %d", next.version, prev.version, prev.version+1))
	}
	return RootAuthority(prev, next).Verify(next)
}

// CheckExpiry refuses a document that has expired at now, as the client does: at the second of its expiry it is
// still valid.
func CheckExpiry(doc Document, now time.Time) error {
	if doc.Expires().Before(now.UTC().Truncate(time.Second)) {
		return unverified(because(ErrExpired, "%s version %d expired on %s", doc.Role(), doc.Version(), doc.Expires().Format(timeFormat)))
	}
	return nil
}

// VerifyRootChain walks from a root that the caller trusts over each N+1.root.json to the newest and returns that one.
// Files up to the trusted version are skipped when they are that version's own bytes in signed content, and refused
// when they differ. The newest must not have expired at now.
func VerifyRootChain(trusted *Root, chain [][]byte, now time.Time, opts ...Option) (*Root, error) {
	if len(chain) > MaxRotations {
		return nil, unverified(because(ErrTooLarge, "%d roots are more than %d", len(chain), MaxRotations))
	}
	current := trusted
	for _, data := range chain {
		next, err := ParseRoot(data, opts...)
		if err != nil {
			return nil, err
		}
		if next.version == current.version && next.Digest() == current.Digest() {
			continue
		}
		if err := VerifyNextRoot(current, next); err != nil {
			return nil, err
		}
		current = next
	}
	if err := CheckExpiry(current, now); err != nil {
		return nil, err
	}
	return current, nil
}
