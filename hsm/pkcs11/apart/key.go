package apart

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"io"
	"sync"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

// Key is a private key in a token whose library runs apart. It implements hsm.Key.
type Key struct {
	t          *Token
	attributes hsm.Attributes
	public     crypto.PublicKey
	uri        hsm.URI // of a key in a store of another kind

	finding chan struct{} // holds one while somebody finds the key in a new child

	mu     sync.Mutex
	at     *child // in which number is valid
	number uint32
	proven *child // which made a signature that was verified here
}

var _ hsm.Key = (*Key)(nil)

func (t *Token) newKey(c *child, b keyBody) (*Key, error) {
	pub, err := b.public()
	if err != nil {
		c.kill(err)
		return nil, err
	}
	k := &Key{t: t, attributes: b.Attributes, public: pub, at: c, number: b.Number, finding: make(chan struct{}, 1)}
	k.attributes.Unread = b.Unread
	if b.URI != "" {
		if k.uri, err = hsm.ParseURI(b.URI); err != nil || k.uri.Scheme != t.c.URI.Scheme {
			err = fmt.Errorf("%w: key URI: %v", errFrame, err)
			c.kill(err)
			return nil, err
		}
	}
	return k, nil
}

// Public is the key's public half.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Attributes are those read back when the key was found or generated.
func (k *Key) Attributes() hsm.Attributes {
	a := k.attributes
	a.ID = bytes.Clone(a.ID)
	return a
}

// Token describes the token that holds the key.
func (k *Key) Token() hsm.TokenInfo { return k.t.Info() }

// URI names the key by token label and serial, object label and id.
func (k *Key) URI() hsm.URI {
	if k.uri.Opaque != "" {
		return k.uri
	}
	u := k.t.Info().URI().InLibrary(k.t.c.Module)
	u.Object, u.ID, u.Type = k.attributes.Label, bytes.Clone(k.attributes.ID), "private"
	return u
}

func (k *Key) query() hsm.Query { return hsm.Query{Label: k.attributes.Label, ID: k.attributes.ID} }

// Sign signs as hsm.Key says. It waits 30 s for a library that is being started anew; the reader is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts)
}

// SignContext is Sign within a context. A signature lost with its child is made again: two signatures over one digest do no
// harm.
func (k *Key) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if len(digest) > maxRequest-signHead-headSize {
		return nil, advice.New(advice.Usage, "sign a digest of it, with a key of another type", "%s: a message of %d bytes is too long to be signed as a whole", k.t.Info().Name(), len(digest))
	}
	if o, ok := opts.(*ed25519.Options); ok && o.Context != "" {
		return nil, advice.New(advice.Usage, "sign without a context", "Ed25519ctx is not offered")
	}
	sig, _, err := k.t.call(ctx, true, kindSign, func(ctx context.Context, c *child) ([][]byte, error) {
		number, err := k.locate(ctx, c)
		return [][]byte{signBody(number, opts), digest}, err
	}, func(c *child, sig []byte) error { return k.check(c, digest, sig, opts) })
	if err != nil {
		return nil, k.t.fail(err, "sign with key %s", k.query())
	}
	return sig, nil
}

// locate gives the key's number in a child. In a new one it is found anew, and must be the same key as before.
func (k *Key) locate(ctx context.Context, c *child) (uint32, error) {
	if number, there := k.numberIn(c); there {
		return number, nil
	}
	select {
	case k.finding <- struct{}{}:
		defer func() { <-k.finding }()
	case <-c.dead:
		return 0, errEnded
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if number, there := k.numberIn(c); there {
		return number, nil
	}
	body, _, err := c.request(ctx, kindKey, encode(queryBody(k.query())))
	if err != nil {
		return 0, err
	}
	var b keyBody
	if err := decode(body, &b); err != nil {
		err = fmt.Errorf("%w: the library's process answered with %w", errEnded, errFrame)
		c.kill(err)
		return 0, err
	}
	pub, err := b.public()
	if err != nil {
		c.kill(err)
		return 0, errEnded
	}
	if same, ok := k.public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(pub) {
		return 0, advice.New(advice.Refused, "the token was changed while it was away: find out how", "%s: private key %s is another one than before", k.t.Info().Name(), k.query())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.number = c, b.Number
	return b.Number, nil
}

func (k *Key) numberIn(c *child) (number uint32, there bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.number, k.at == c
}

// check refuses what cannot be a signature of this key's. The first one of each child is verified, and each by RSA, where that costs
// little beside the signature; all others are verified by who asked for them.
func (k *Key) check(c *child, digest, sig []byte, opts crypto.SignerOpts) error {
	k.mu.Lock()
	proven := k.proven == c
	k.mu.Unlock()
	_, isRSA := k.public.(*rsa.PublicKey)
	if proven && !isRSA && fitsIn(k.public, sig) {
		return nil
	}
	if !signature.Verify(k.public, digest, opts, sig) {
		return advice.New(advice.Failed, "do not use this token until its vendor has explained it", "key %s: the signature that the library gave does not verify under the key's public half", k.query())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proven = c
	return nil
}

// fitsIn says whether sig has the form of a signature by pub.
func fitsIn(pub crypto.PublicKey, sig []byte) bool {
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		size := (p.Curve.Params().BitSize + 7) / 8
		return len(sig) >= 8 && len(sig) <= 2*size+9 && sig[0] == 0x30
	case ed25519.PublicKey:
		return len(sig) == ed25519.SignatureSize
	}
	return false
}
