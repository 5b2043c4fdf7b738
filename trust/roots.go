package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

type rootMetadata = metadata.Metadata[metadata.RootType]

// chain is a run of root metadata, each signed by a threshold of itself and of the one before.
type chain struct {
	raw   [][]byte
	first int64
	last  *rootMetadata
	keys  map[string]crypto.PublicKey
	head  header
	// asOf says by what is known of weak keys: the zero value by all of it.
	asOf knownAt
}

// contains says whether a root with this digest is in the chain.
func (c *chain) contains(digest [32]byte) bool {
	return slices.ContainsFunc(c.raw, func(raw []byte) bool { return sha256.Sum256(raw) == digest })
}

// signers are the keys of a top-level role.
func (c *chain) signers(name string) signers {
	r := c.last.Signed.Roles[name]
	return signers{ids: r.KeyIDs, threshold: r.Threshold, keys: c.keys}
}

// startChain begins a chain with a root that the caller trusts.
func startChain(v knownAt, raw []byte) (*chain, *trustedmetadata.TrustedMetadata, error) {
	c := &chain{asOf: v}
	m, err := c.check("the first root", raw)
	if err != nil {
		return nil, nil, err
	}
	trusted, err := trustedmetadata.New(raw)
	if err != nil {
		return nil, nil, fromTUF("the first root", err)
	}
	c.add(raw, m)
	c.first = c.head.version
	return c, trusted, nil
}

// check verifies the form of a root and its own threshold.
func (c *chain) check(thing string, raw []byte) (*rootMetadata, error) {
	m, h, err := parseMetadata[metadata.RootType](thing, raw)
	if err != nil {
		return nil, err
	}
	if err := h.onlyFormat(); err != nil {
		return nil, refuse(ErrMalformed, thing, "%v", err)
	}
	keys, err := checkRootShape(c.asOf, m)
	if err != nil {
		return nil, refuse(ErrMalformed, thing, "%v", err)
	}
	r := m.Signed.Roles[metadata.ROOT]
	if err := checkThreshold(thing, m.Signed, m.Signatures, r.KeyIDs, r.Threshold, keys); err != nil {
		return nil, err
	}
	if c.last != nil {
		by := c.signers(metadata.ROOT)
		if err := checkThreshold(thing, m.Signed, m.Signatures, by.ids, by.threshold, by.keys); err != nil {
			return nil, err
		}
		if h.environment != c.head.environment {
			return nil, refuse(ErrEnvironment, thing, "%s, not %s", h.environment, c.head.environment)
		}
	}
	return m, nil
}

func (c *chain) add(raw []byte, m *rootMetadata) {
	c.raw = append(slices.Clip(c.raw), raw)
	c.last = m
	c.keys, _ = parseKeys(c.asOf, m.Signed.Keys)
	c.head, _ = headerOf(any(m))
}

// extend walks to the newest root in files.
func (c *chain) extend(r *reader, trusted *trustedmetadata.TrustedMetadata) error {
	for range MaxRoots {
		path := metadataPath(metadata.ROOT, c.head.version+1)
		raw, err := r.read(path, MaxRootSize)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return unreadable(path, err)
		}
		m, err := c.check(path, raw)
		if err != nil {
			return err
		}
		if _, err := trusted.UpdateRoot(raw); err != nil {
			return fromTUF(path, err)
		}
		c.add(raw, m)
	}
	return refuse(ErrMalformed, "the root chain", "it is longer than %d", MaxRoots)
}

// openChain starts from the pinned root, which it looks for in files unless the pin brings its bytes.
func openChain(r *reader, pin Pin) (*chain, *trustedmetadata.TrustedMetadata, error) {
	raw := pin.root
	for n := int64(1); raw == nil; n++ {
		path := metadataPath(metadata.ROOT, n)
		data, err := r.read(path, MaxRootSize)
		switch {
		case errors.Is(err, fs.ErrNotExist) || n > MaxRoots:
			if r.empty() {
				return nil, nil, refuse(ErrEmpty, "the source", "")
			}
			return nil, nil, refuse(ErrPin, pin.String(), "")
		case err != nil:
			return nil, nil, unreadable(path, err)
		case sha256.Sum256(data) == pin.digest:
			raw = data
		default:
			delete(r.seen, path)
		}
	}
	c, trusted, err := startChain(r.asOf, raw)
	if err != nil {
		return nil, nil, err
	}
	path := metadataPath(metadata.ROOT, c.first)
	if there, err := r.read(path, MaxRootSize); pin.root != nil && err == nil && !bytes.Equal(there, raw) {
		return nil, nil, refuse(ErrPin, pin.String(), "%s is another one", path)
	}
	r.seen[path] = sha256.Sum256(raw)
	return c, trusted, c.extend(r, trusted)
}

// fromTUF gives an error of go-tuf its sentinel.
func fromTUF(thing string, err error) error {
	var unsigned *metadata.ErrUnsignedMetadata
	var late *metadata.ErrExpiredMetadata
	var version *metadata.ErrBadVersionNumber
	var mixed *metadata.ErrLengthOrHashMismatch
	switch {
	case errors.As(err, &unsigned):
		return refuse(ErrSignature, thing, "%v", err)
	case errors.As(err, &late):
		return expired(thing, "")
	case errors.As(err, &version), errors.As(err, &mixed):
		return refuse(ErrMixed, thing, "%v", err)
	}
	return refuse(ErrMalformed, thing, "%v", err)
}
