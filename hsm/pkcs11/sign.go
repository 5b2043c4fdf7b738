package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	p11 "github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

// Sign signs as hsm.Key says. It waits for a token that went away as long as Config.Patience; the reader is not used, for the token
// has its own randomness.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(k.t.within, digest, opts)
}

// lastWord is how long a call whose context is over is waited for to say why it did not get through.
const lastWord = 100 * time.Millisecond

// SignContext is Sign within a context. It returns when the context ends, also where the library does not: that call keeps its
// session until the library returns.
func (k *Key) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if ctx.Done() == nil {
		return k.sign(ctx, digest, opts)
	}
	type answer struct {
		sig []byte
		err error
	}
	answered := make(chan answer, 1)
	digest = bytes.Clone(digest) // the caller may use it again while the library still reads it
	go func() {
		sig, err := k.sign(ctx, digest, opts)
		answered <- answer{sig, err}
	}()
	select {
	case a := <-answered:
		return a.sig, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-answered:
		return a.sig, a.err
	case <-time.After(lastWord):
		return nil, k.t.fail(context.Cause(ctx), "sign with %s", k.name())
	}
}

// SignWaiting is SignContext for a process that is ended from outside when the library hangs: a call into the library that has begun is waited
// for, whatever the context, which ends only the waits for a session and for a token that went away.
func (k *Key) SignWaiting(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.sign(ctx, digest, opts)
}

// sign makes the signature. One that is lost to an outage is made again, at most twice: two signatures over one digest do no harm.
func (k *Key) sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	var sig []byte
	var err error
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey:
		sig, err = k.signECDSA(ctx, pub, digest, opts)
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			sig, err = k.signPSS(ctx, pub, digest, pss)
		} else {
			sig, err = k.signPKCS1(ctx, pub, digest, opts)
		}
	case ed25519.PublicKey:
		sig, err = k.signEd25519(ctx, digest, opts)
	default:
		err = fmt.Errorf("keys of type %T do not sign here", pub)
	}
	if err != nil {
		if !k.attributes.Sign && code(err) != p11.CKR_OK {
			err = advice.New(advice.Usage, "name the signing key; on a PIV card it is id=%02", "it is not for signing: %w", err)
		}
		return nil, k.t.fail(err, "sign with %s", k.name())
	}
	return sig, nil
}

// checkDigest refuses what is not a digest of the hash named.
func checkDigest(digest []byte, opts crypto.SignerOpts) (crypto.Hash, error) {
	if opts == nil || opts.HashFunc() == 0 {
		return 0, advice.New(advice.Usage, "hash the message and name the hash in opts", "the digest's hash is not named")
	}
	h := opts.HashFunc()
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return 0, advice.New(advice.Usage, "use SHA-256, SHA-384 or SHA-512", "hash %s is not signed here", h)
	}
	if len(digest) != h.Size() {
		return 0, advice.New(advice.Usage, "hash the message first", "digest of %d bytes is not one of %s", len(digest), h)
	}
	return h, nil
}

// operate makes one signature in a session, with the key's own PIN where it asks for it each time
// (CKA_ALWAYS_AUTHENTICATE).
func (k *Key) operate(ctx context.Context, m *p11.Mechanism, data []byte) ([]byte, error) {
	pin, err := k.ownPIN(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	var sig []byte
	err = k.use(ctx, func(s session, o p11.ObjectHandle) error {
		c := k.t.m.ctx
		if err := c.SignInit(s.h, []*p11.Mechanism{m}, o); err != nil {
			return err
		}
		if err := k.authenticate(s, pin); err != nil {
			return err
		}
		sig, err = c.Sign(s.h, data)
		return err
	})
	return sig, err
}

// ownPIN gives the PIN for a key that wants it at each use, and nil for others.
func (k *Key) ownPIN(ctx context.Context) ([]byte, error) {
	if !k.attributes.AlwaysAuthenticate {
		return nil, nil
	}
	return k.t.askPIN(hsm.ForSignature(ctx), k.t.Info())
}

// authenticate gives the PIN once more for a key that asks for it at each use, between SignInit and Sign. A PIN that is refused here is not
// sent again by any other call either.
func (k *Key) authenticate(s session, pin []byte) error {
	if pin == nil {
		return nil
	}
	t := k.t
	t.mu.Lock()
	refused := t.gaveUp
	t.mu.Unlock()
	if refused != nil {
		return refused
	}
	err := t.m.signIn(s.h, slotToken{slot: s.slot, info: t.Info()}, p11.CKU_CONTEXT_SPECIFIC, pin)
	if errors.Is(err, hsm.ErrPIN) || errors.Is(err, hsm.ErrPINLocked) {
		t.mu.Lock()
		t.gaveUp = err // the kept PIN is not right any more: no call may try it again
		t.mu.Unlock()
	}
	return err
}

// signECDSA signs a digest (CKM_ECDSA): no token known here lacks it, and several lack the mechanisms that hash.
func (k *Key) signECDSA(ctx context.Context, pub *ecdsa.PublicKey, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, err := checkDigest(digest, opts); err != nil {
		return nil, err
	}
	// The leftmost bits of a digest longer than the order count (SEC 1, section 4.1.3); tokens differ in who cuts.
	size := (pub.Curve.Params().BitSize + 7) / 8
	raw, err := k.operate(ctx, p11.NewMechanism(p11.CKM_ECDSA, nil), digest[:min(len(digest), size)])
	if err != nil {
		return nil, err
	}
	return ecdsaDER(raw, pub.Curve.Params().N)
}

// ecdsaDER turns PKCS#11's r || s into the ASN.1 that everybody else uses.
func ecdsaDER(raw []byte, order *big.Int) ([]byte, error) {
	size := (order.BitLen() + 7) / 8
	if len(raw) != 2*size {
		return nil, fmt.Errorf("the token answered with a signature of %d bytes, not %d", len(raw), 2*size)
	}
	r, s := new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(order) >= 0 || s.Cmp(order) >= 0 {
		return nil, errors.New("the token answered with a signature out of range")
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(r)
		b.AddASN1BigInt(s)
	})
	return b.Bytes()
}

// signEd25519 signs the message itself: the plain Ed25519 of RFC 8032, which has neither a prehash nor a context.
func (k *Key) signEd25519(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts.HashFunc() != 0 {
		return nil, advice.New(advice.Usage, "pass the message itself with crypto.Hash(0)", "Ed25519 signs the message itself, not a digest")
	}
	if o, ok := opts.(*ed25519.Options); ok && o.Context != "" {
		return nil, advice.New(advice.Usage, "sign without a context", "Ed25519ctx is not offered")
	}
	sig, err := k.operate(ctx, p11.NewMechanism(ckmEDDSA, nil), message)
	if err == nil && len(sig) != ed25519.SignatureSize {
		err = fmt.Errorf("the token answered with a signature of %d bytes, not %d", len(sig), ed25519.SignatureSize)
	}
	return sig, err
}

// digestInfo are the DER beginnings of a DigestInfo (RFC 8017, section 9.2, note 1).
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// signPKCS1 pads here and has the token do the rest (CKM_RSA_PKCS takes a DigestInfo), for not every token has each combined mechanism.
func (k *Key) signPKCS1(ctx context.Context, pub *rsa.PublicKey, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	h, err := checkDigest(digest, opts)
	if err != nil {
		return nil, err
	}
	prefix := digestInfo[h]
	sig, err := k.operate(ctx, p11.NewMechanism(p11.CKM_RSA_PKCS, nil), append(prefix[:len(prefix):len(prefix)], digest...))
	if err == nil && len(sig) != pub.Size() {
		err = fmt.Errorf("the token answered with a signature of %d bytes, not %d", len(sig), pub.Size())
	}
	return sig, err
}

// verifySignature checks a token's signature in software; a PSS salt in opts is a number, or as the hash: never automatic.
func verifySignature(public crypto.PublicKey, digest, sig []byte, opts crypto.SignerOpts) error {
	if !signature.Verify(public, digest, opts, sig) {
		return advice.New(advice.Failed, "do not use this token until its vendor has explained it", "the token's signature does not verify under the key's public half")
	}
	return nil
}
