package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
)

// Generate makes a key pair as hsm.Token says. Nothing is written before the key's attributes, read back of the public area that
// the TPM answered with, are those of its class and the key was seen to sign; then its file is written, and the key is loaded from
// the file once more.
func (t *Token) Generate(ctx context.Context, spec hsm.GenerateSpec) (hsm.Key, error) {
	k, err := t.generate(ctx, spec)
	if err != nil {
		return nil, t.fail(err, "generate key %q", spec.Label)
	}
	return k, nil
}

func (t *Token) generate(ctx context.Context, spec hsm.GenerateSpec) (*Key, error) {
	spec, err := t.checkSpec(spec)
	if err != nil {
		return nil, err
	}
	lock, err := t.s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := t.refuseExisting(spec); err != nil {
		return nil, err
	}
	f, err := t.create(ctx, spec)
	if err != nil {
		return nil, err
	}
	k := &Key{t: t, f: f}
	if err := k.prove(ctx, spec.Use); err != nil {
		return nil, fmt.Errorf("%w; nothing was kept", err)
	}
	if err := t.refuseExisting(hsm.GenerateSpec{Label: f.label, ID: f.id}); err != nil {
		return nil, err
	}
	if err := durable.Create(t.s.path(keysDir, f.id), f.encode(), 0o600); err != nil {
		return nil, err
	}
	if k, err = t.settle(ctx, f.id, spec); err != nil {
		_, gone := t.remove(context.WithoutCancel(ctx), hsm.Query{Label: f.label, ID: f.id})
		return nil, errors.Join(err, gone)
	}
	return k, nil
}

// settle keeps a key in the TPM too, where the store asks for that, and proves it as it stands.
func (t *Token) settle(ctx context.Context, id []byte, spec hsm.GenerateSpec) (*Key, error) {
	f, err := t.readKey(id)
	if err != nil {
		return nil, err
	}
	k := &Key{t: t, f: f}
	if t.s.Persistent && f.handle == 0 {
		if err := t.persist(ctx, k); err != nil {
			return nil, fmt.Errorf("keep it in the TPM: %w", err)
		}
	}
	return k, k.prove(ctx, spec.Use)
}

// checkSpec refuses what no TPM is asked for, and fills in what is left out.
func (t *Token) checkSpec(spec hsm.GenerateSpec) (hsm.GenerateSpec, error) {
	if spec.Class == "" {
		spec.Class = hsm.Sealed
	}
	if spec.Use == "" {
		spec.Use = hsm.Signing
	}
	if err := t.usable(); err != nil {
		return spec, err
	}
	refuse := func(hint, format string, args ...any) (hsm.GenerateSpec, error) {
		return spec, advice.New(advice.Usage, hint, format, args...)
	}
	_, ec := curves[spec.Algorithm]
	switch {
	case checkLabel(spec.Label) != nil:
		return refuse("choose a label of one line", "%w", checkLabel(spec.Label))
	case len(spec.ID) > 100:
		return refuse("choose an id of up to 100 bytes", "its id does not fit")
	case spec.Use != hsm.Signing && spec.Use != hsm.Agreement && spec.Use != hsm.Decryption:
		return refuse("", "use %q is none of sign, agree, decrypt", string(spec.Use))
	}
	if err := hsm.TPMCan(spec.Algorithm, spec.Class); err != nil {
		return spec, err
	}
	if spec.Use == hsm.Agreement && !ec || spec.Use == hsm.Decryption && ec {
		return refuse("use P-256 or P-384 for key agreement, RSA for decryption", "algorithm %s is not for that", show.Text(spec.Algorithm))
	}
	return spec, nil
}

// refuseExisting refuses a label or an id that is in use, by any file.
func (t *Token) refuseExisting(spec hsm.GenerateSpec) error {
	all, err := t.entries()
	if err != nil {
		return err
	}
	for _, e := range all {
		if bytes.Equal(e.id, spec.ID) || e.file != nil && e.file.label == spec.Label {
			return advice.New(advice.Refused, "choose another name; an existing key is never overwritten", "a key with this label or id %w", hsm.ErrExists)
		}
	}
	return nil
}

// create has the TPM make a key, and holds what it made to the spec.
func (t *Token) create(ctx context.Context, spec hsm.GenerateSpec) (*keyFile, error) {
	policy, err := policyOf(t.s.PCRs, true)
	if err != nil {
		return nil, err
	}
	want, err := template(spec, policy)
	if err != nil {
		return nil, err
	}
	b, err := operate(ctx, t.c, func(w *wire) (*blob, error) {
		root, err := t.root(w)
		if err != nil {
			return nil, err
		}
		if err := t.unchanged(w); err != nil {
			return nil, err
		}
		return create(w, root, want, t.pin.Bytes(), nil)
	})
	if err != nil {
		return nil, err
	}
	f := &keyFile{label: spec.Label, id: slices.Clone(spec.ID), use: spec.Use, blob: b}
	if f.public, err = b.area(); err != nil {
		return nil, err
	}
	if !like(f.public, &want) {
		return nil, fmt.Errorf("%w: the TPM made another object than it was asked for", hsm.ErrAttributes)
	}
	if f.key, err = publicKey(f.public); err != nil {
		return nil, err
	}
	if len(f.id) == 0 {
		spki, err := x509.MarshalPKIXPublicKey(f.key)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(spki)
		f.id = sum[:20]
	}
	f.seal(t.secret.Bytes())
	return f, f.check(spec)
}

// check holds a key to what was asked for.
func (f *keyFile) check(spec hsm.GenerateSpec) error {
	a := f.attributes()
	if a.Algorithm != spec.Algorithm || f.use != spec.Use ||
		a.Sign != (spec.Use == hsm.Signing) || a.Decrypt != (spec.Use == hsm.Decryption) || a.Derive != (spec.Use == hsm.Agreement) {
		return fmt.Errorf("%w: its algorithm or its uses are not those asked for", hsm.ErrAttributes)
	}
	return a.CheckFresh(spec.Class)
}

// prove shows that the private key belongs to the public one and, for RSA, that the TPM's PSS is everybody's.
func (k *Key) prove(ctx context.Context, use hsm.Use) error {
	switch use {
	case hsm.Agreement:
		return k.proveAgreement(ctx)
	case hsm.Decryption:
		return k.proveDecryption(ctx)
	}
	digest := make([]byte, 32)
	rand.Read(digest)
	schemes := []crypto.SignerOpts{crypto.SHA256}
	if _, ok := k.f.key.(*rsa.PublicKey); ok {
		schemes = append(schemes, signature.PSS256)
	}
	for _, opts := range schemes {
		if _, err := k.SignContext(ctx, digest, opts); err != nil {
			return fmt.Errorf("test signature: %w", err)
		}
	}
	return nil
}

// CanGenerate says whether the TPM makes keys of an algorithm, and for RSA whether its PSS salt is as long as the hash: that is tried on a
// key that is thrown away, once, which takes some seconds on slow hardware.
func (t *Token) CanGenerate(a hsm.Algorithm) error {
	err := hsm.TPMCan(a, hsm.Sealed)
	if err == nil {
		err = t.usable()
	}
	if err == nil {
		if _, ok := rsaBits[a]; ok {
			err = t.probePSS(context.Background())
		}
	}
	if err == nil {
		err = t.takes(a)
	}
	return t.fail(err, "algorithm %s", show.Text(a))
}

// takes asks the TPM whether it has the size or curve.
func (t *Token) takes(a hsm.Algorithm) error {
	want, err := template(hsm.GenerateSpec{Algorithm: a, Use: hsm.Signing}, nil)
	if err != nil {
		return err
	}
	_, err = operate(context.Background(), t.c, func(w *wire) (none struct{}, err error) {
		_, err = tpm2.TestParms{Parameters: tpm2.TPMTPublicParms{Type: want.Type, Parameters: want.Parameters}}.Execute(w)
		return
	})
	if err != nil && !gone(err) {
		err = fmt.Errorf("%w: %w", hsm.ErrUnsupported, err)
	}
	return err
}

func (t *Token) probePSS(ctx context.Context) error {
	t.mu.Lock()
	known, err := t.pssKnown, t.pss
	t.mu.Unlock()
	if known {
		return err
	}
	spec := hsm.GenerateSpec{Label: "probe", ID: []byte{0}, Algorithm: hsm.RSA2048, Class: hsm.Sealed, Use: hsm.Signing}
	f, err := t.create(ctx, spec)
	if err == nil {
		digest := make([]byte, 32)
		rand.Read(digest)
		_, err = (&Key{t: t, f: f}).SignContext(ctx, digest, signature.PSS256)
	}
	if err == nil || errors.Is(err, hsm.ErrUnsupported) {
		t.mu.Lock()
		t.pssKnown, t.pss = true, err
		t.mu.Unlock()
	}
	return err
}

// Adopt takes over the key that an earlier call of Generate with the same spec made, in this process or in one that is no more, and whose
// answer was lost. It is held to everything that Generate holds a fresh key to. The spec must have an id. The answer is nil without an error if
// there is no such key; one with the label and another id is somebody else's, and is refused untouched.
func (t *Token) Adopt(ctx context.Context, spec hsm.GenerateSpec) (hsm.Key, error) {
	k, err := t.adopt(ctx, spec)
	if err != nil {
		return nil, t.fail(err, "take over key %q", spec.Label)
	}
	if k == nil {
		return nil, nil
	}
	return k, nil
}

func (t *Token) adopt(ctx context.Context, spec hsm.GenerateSpec) (*Key, error) {
	spec, err := t.checkSpec(spec)
	if err != nil {
		return nil, err
	}
	if len(spec.ID) == 0 {
		return nil, advice.New(advice.Usage, "give the id that it was to have", "it has no id")
	}
	lock, err := t.s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	all, err := t.entries()
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.file != nil && e.file.label == spec.Label && !bytes.Equal(e.id, spec.ID) {
			return nil, advice.New(advice.Refused, "find out who made it", "a private key %q that this generation did not make: %w", spec.Label, hsm.ErrExists)
		}
	}
	f, err := t.readKey(spec.ID)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case f.label != spec.Label:
		return nil, advice.New(advice.Refused, "find out who made it", "the key with this id is %q: %w", f.label, hsm.ErrExists)
	}
	if err := f.check(spec); err != nil {
		return nil, err
	}
	return t.settle(ctx, spec.ID, spec)
}
