package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Generate makes a key pair as hsm.Token says. A label or id that any key or certificate in the token has is refused
// before anything is generated. The pair is destroyed and refused (hsm.ErrAttributes) if its attributes are not those of its
// class, if it can be taken out of the token (probe.go), if it is gone with the session that made it, or if it does not sign and
// verify. Generation is not repeated after an outage. Where the pair could not be destroyed either, the error says that it may be left,
// and Adopt or Remove finds it by its label and id.
func (t *Token) Generate(ctx context.Context, spec hsm.GenerateSpec) (hsm.Key, error) {
	k, err := t.generate(ctx, spec)
	if err != nil {
		return nil, err // not k: a nil *Key in an interface is not nil
	}
	return k, nil
}

// generate is Generate with the package's own type of key. The order matters: nothing that has the label or the id may be there before; the
// pair is looked at in the session that made it, where a module that lies is still at ease; then that session is closed, and the pair
// must be found in another one and sign.
func (t *Token) generate(ctx context.Context, spec hsm.GenerateSpec) (*Key, error) {
	spec, kind, err := t.checkSpec(spec)
	if err != nil {
		return nil, err
	}
	var key *Key
	acted := false
	id := spec.ID
	if len(id) == 0 {
		id = make([]byte, 20) // until the public key is known, and for good in a token that cannot change it
		rand.Read(id)
	}
	err = t.do(ctx, func(s session) error {
		if err := t.refuseExisting(s, hsm.Query{Label: spec.Label}, hsm.Query{ID: spec.ID}); err != nil {
			return err
		}
		public, private := templates(spec, id, kind)
		s.act()
		acted = true
		if key, err = t.generateIn(s, spec, kind, public, private); err != nil {
			return err
		}
		return errCloseSession // and with it whatever is a session object only
	})
	if err == nil {
		if err = t.confirm(ctx, key); err == nil {
			err = t.prove(ctx, key, spec.Use)
		}
	}
	if err == nil {
		return key, nil
	}
	if !acted {
		return nil, t.fail(err, "generate key %q", spec.Label)
	}
	// A pair that was not destroyed by its handles, or a second one, has one of these ids.
	gone := t.removeFresh(ctx, id, key)
	if gone != nil && lost(err) {
		err = advice.New(advice.Failed, "look for it with `hanaper token show` before trying again", "%w (the token went away in between: a key pair may be left in it)", err)
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("%s: generate key %q: %w", t.Info().Name(), spec.Label, err), advice.Hint(err))
	}
	err = errors.Join(err, gone)
	if errors.Is(err, hsm.ErrAttributes) {
		// Nothing that the caller could write differently helps.
		hint := "this token does not make keys as they are asked for: let another one make them (docs/pkcs11.md has those that were tried)"
		if t.m.sparse.Load() {
			hint = "tpm2-pkcs11 makes keys that do more than they are asked for: name the TPM by a tpm: URI, without that library"
		}
		err = advice.Wrap(advice.KindOf(err), err, hint)
	}
	return nil, t.fail(err, "generate key %q: what the token made is refused, and %s", spec.Label, fate(gone))
}

// removeFresh removes what a generation made that failed.
func (t *Token) removeFresh(ctx context.Context, id []byte, k *Key) error {
	// A little time of its own, for the caller's may be over; but a token that went away is not waited for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(t.patience, removeTime))
	defer cancel()
	ids := [][]byte{id}
	if k != nil && !bytes.Equal(k.attributes.ID, id) {
		ids = append(ids, k.attributes.ID)
	}
	var err error
	for _, id := range ids {
		// By the id alone, for the token may have given it another label. Nothing had this id before.
		_, e := t.removeAll(ctx, hsm.Query{ID: id})
		err = errors.Join(err, e)
	}
	return err
}

// removeTime is how long a failed generation tries to remove what it made.
const removeTime = 5 * time.Second

// checkSpec refuses what no token is asked for, fills in what is left out, and finds the algorithm.
func (t *Token) checkSpec(spec hsm.GenerateSpec) (hsm.GenerateSpec, kind, error) {
	if spec.Class == "" {
		spec.Class = hsm.Sealed
	}
	if spec.Use == "" {
		spec.Use = hsm.Signing
	}
	k, err := kindOf(spec.Algorithm)
	refuse := func(hint, format string, args ...any) (hsm.GenerateSpec, kind, error) {
		return spec, k, advice.New(advice.Usage, hint, "%s: generate key %q: %w", t.Info().Name(), spec.Label, fmt.Errorf(format, args...))
	}
	switch {
	case spec.Label == "":
		return refuse("give it a label", "it has no label")
	case len(spec.Label) > 255 || bytes.IndexByte([]byte(spec.Label), 0) >= 0:
		return refuse("choose a shorter label of plain text", "the label does not fit")
	case len(spec.ID) > 255:
		return refuse("choose an id of up to 255 bytes", "the id does not fit")
	case err != nil:
		return refuse("", "%w", err)
	case spec.Class == hsm.Restored || spec.Class == hsm.RestoredBackup:
		return refuse("a restored key comes from UnwrapKey", "class %s is not generated", show.Text(spec.Class))
	case spec.Class != hsm.Sealed && spec.Class != hsm.Backup:
		return refuse("", "class %q is none of sealed, backup", string(spec.Class))
	case spec.Use != hsm.Signing && spec.Use != hsm.Agreement && spec.Use != hsm.Decryption:
		return refuse("", "use %q is none of sign, agree, decrypt", string(spec.Use))
	case spec.Use != hsm.Signing && spec.Class != hsm.Sealed:
		return refuse("generate it as sealed; who loses an officer's key gets a new share", "only signing keys are backed up")
	case spec.Use == hsm.Agreement && k.family != familyEC, spec.Use == hsm.Decryption && k.family != familyRSA:
		return refuse("use P-256 or P-384 for key agreement, RSA for decryption", "algorithm %s is not for that", show.Text(spec.Algorithm))
	}
	err = t.CanGenerate(spec.Algorithm)
	if err == nil && spec.Class == hsm.Backup {
		err = t.CanWrap(spec.Algorithm)
	}
	return spec, k, err
}

// refuseExisting refuses a label or an id that is in use by any object that could be taken for the new one.
func (t *Token) refuseExisting(s session, queries ...hsm.Query) error {
	for _, q := range queries {
		if q.Label == "" && len(q.ID) == 0 {
			continue
		}
		for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY, p11.CKO_SECRET_KEY, p11.CKO_CERTIFICATE} {
			found, err := t.search(s, class, q)
			if err != nil {
				return err
			}
			if len(found) > 0 {
				return advice.New(advice.Refused, "choose another name; an existing key is never overwritten", "%s: %s %s %w",
					t.Info().Name(), className(class), q, hsm.ErrExists)
			}
		}
	}
	return nil
}

// className is a class of objects in words.
func className(class uint) string {
	switch class {
	case p11.CKO_PRIVATE_KEY:
		return "private key"
	case p11.CKO_PUBLIC_KEY:
		return "public key"
	case p11.CKO_SECRET_KEY:
		return "secret key"
	}
	return "certificate"
}

// generateIn makes the pair, inspects it, and destroys what fails. The caller makes sure that nothing is left.
func (t *Token) generateIn(s session, spec hsm.GenerateSpec, kind kind, public, private []*p11.Attribute) (*Key, error) {
	pub, priv, err := t.generatePair(s, spec, kind, public, private)
	if err != nil {
		return nil, err
	}
	key, err := t.inspect(s, spec, kind, pub, priv)
	if err != nil {
		for _, o := range []p11.ObjectHandle{priv, pub} {
			if e := t.m.destroy(s, o); e != nil && !deadHandle(e) {
				err = errors.Join(err, e)
			}
		}
		return nil, err
	}
	return key, nil
}

// inspect reads a fresh pair back, from the token and not from what was asked, refuses what differs, and tries to take the private key
// out (probe.go).
func (t *Token) inspect(s session, spec hsm.GenerateSpec, kind kind, pub, priv p11.ObjectHandle) (*Key, error) {
	public, err := t.readPublic(s, pub)
	if err != nil {
		return nil, fmt.Errorf("read the public key back: %w", err)
	}
	if got := hsm.AlgorithmOf(public); got != spec.Algorithm {
		return nil, fmt.Errorf("%w: the token made a key of algorithm %q, not %s", hsm.ErrAttributes, string(got), show.Text(spec.Algorithm))
	}
	if len(spec.ID) == 0 {
		id, err := keyID(public)
		if err != nil {
			return nil, err
		}
		if err := t.rename(s, id, pub, priv); err != nil {
			return nil, err
		}
	}
	a, err := t.readPrivate(s, priv)
	if err != nil {
		return nil, fmt.Errorf("read the attributes back: %w", err)
	}
	a.Algorithm = spec.Algorithm
	if a.Label != spec.Label || (len(spec.ID) > 0 && !bytes.Equal(a.ID, spec.ID)) || len(a.ID) == 0 {
		return nil, fmt.Errorf("%w: it reads back as %s", hsm.ErrAttributes, hsm.Query{Label: a.Label, ID: a.ID})
	}
	expected := a
	if t.Info().Manufacturer == nssManufacturer {
		// NSS softokn answers CKA_LOCAL false for keys that it generated itself; this one was generated in this very
		// call, so the answer is known to be wrong. What is recorded is still what was read.
		expected.Local = true
	}
	if spec.Use == hsm.Agreement && (a.Sign || a.Decrypt || !a.Derive) || spec.Use == hsm.Decryption && (a.Sign || !a.Decrypt || a.Derive) || spec.Use == hsm.Signing && !a.Sign {
		return nil, fmt.Errorf("%w: its uses are not the one asked for", hsm.ErrAttributes)
	}
	if err := expected.CheckFresh(spec.Class); err != nil {
		return nil, err
	}
	if err := t.checkPublic(s, pub, a); err != nil {
		return nil, err
	}
	if err := t.probe(s, priv, a, spec.Class); err != nil {
		return nil, err
	}
	k := newKey(t, a, public)
	k.handle, k.epoch, k.before = priv, s.epoch, t.m.destroyed.Load()
	return k, nil
}

const nssManufacturer = "Mozilla Foundation"

// rename gives both halves their id. A token that cannot change an id keeps the random one of the template.
func (t *Token) rename(s session, id []byte, pub, priv p11.ObjectHandle) error {
	change := []*p11.Attribute{attr(p11.CKA_ID, id)}
	before, err := t.attributes(s, priv, p11.CKA_ID)
	if err != nil {
		return err
	}
	if err := t.m.ctx.SetAttributeValue(s.h, priv, change); err != nil {
		if lost(err) {
			return err
		}
		return nil
	}
	if err := t.m.ctx.SetAttributeValue(s.h, pub, change); err != nil {
		return errors.Join(err, t.m.ctx.SetAttributeValue(s.h, priv, []*p11.Attribute{attr(p11.CKA_ID, before[p11.CKA_ID])}))
	}
	return nil
}

// prove shows that the private key belongs to the public one.
func (t *Token) prove(ctx context.Context, k *Key, use hsm.Use) error {
	message := make([]byte, 32)
	rand.Read(message)
	switch use {
	case hsm.Agreement:
		return k.proveAgreement(ctx)
	case hsm.Decryption:
		return k.proveDecryption(ctx)
	}
	var opts crypto.SignerOpts = crypto.SHA256
	if k.attributes.Algorithm == hsm.Ed25519 {
		opts = crypto.Hash(0)
	}
	sig, err := k.SignContext(ctx, message, opts)
	if err != nil {
		return fmt.Errorf("test signature: %w", err)
	}
	return verifySignature(k.public, message, sig, opts)
}
