package kms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
)

// Key is a key in a store. It is safe for concurrent use.
type Key struct {
	t      *Token
	name   string
	public crypto.PublicKey // as it was named first

	mu    sync.Mutex
	of    manager // the connection that found belongs to
	found crypto.Signer
}

var _ hsm.Key = (*Key)(nil)

// Public is the public half that the store named when the key was opened.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Attributes says what is known of the key, and that nobody read the rest.
func (k *Key) Attributes() hsm.Attributes {
	return hsm.Attributes{Unread: true, Label: k.name, Algorithm: hsm.AlgorithmOf(k.public), Sign: true}
}

// Token describes the store.
func (k *Key) Token() hsm.TokenInfo { return k.t.info }

// URI names the store and the key in it.
func (k *Key) URI() hsm.URI { return k.t.address.keyURI(k.name) }

// connection gives the store's handle of the key.
func (k *Key) connection(ctx context.Context) (manager, crypto.Signer, error) {
	m, err := k.t.manager(ctx)
	if err != nil {
		return nil, nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.found != nil && k.of == m {
		return m, k.found, nil
	}
	s, err := m.signer(k.name)
	if err != nil {
		k.t.failed(m, err)
		return m, nil, err
	}
	if k.public != nil && !same(k.public, s.Public()) {
		return m, nil, fmt.Errorf("the store names another public key for it than before: %w", hsm.ErrNoKey)
	}
	k.of, k.found = m, s
	return m, s, nil
}

func same(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}

// Sign signs as hsm.Key says, within the store's timeout; the reader is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts)
}

// SignContext is Sign within a context. A signature that the public key does not verify is an error, never an answer.
func (k *Key) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	var sig []byte
	digest = bytes.Clone(digest) // the caller may use it again while a store that hangs still reads it
	err := k.t.within(ctx, fmt.Sprintf("sign with key %s", show.Text(k.name)), func(ctx context.Context) error {
		s, err := k.sign(ctx, digest, opts)
		if err == nil && !signature.Verify(k.public, digest, opts, s) {
			err = signature.ErrWrong
		}
		if err == nil {
			sig = s
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return sig, nil
}

// sign asks the store once, and once more over a new connection where the old one broke.
func (k *Key) sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := k.t.address.scheme.checkSign(k.public, opts); err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		m, s, err := k.connection(ctx)
		if err != nil {
			return nil, err
		}
		sig, err := s.Sign(rand.Reader, digest, opts)
		if err == nil {
			return sig, nil
		}
		k.t.failed(m, err)
		if again || !errors.Is(plain(err), hsm.ErrGone) || ctx.Err() != nil {
			return nil, err
		}
	}
}
