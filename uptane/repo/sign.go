package repo

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/uptane"
)

// SignOptions are the flags of root sign and targets sign.
type SignOptions struct {
	Context context.Context
	// Keys are names in the repository's key folder, or URIs of keys in tokens.
	Keys []string
	// Version replaces the default, the unsigned version plus one.
	Version *int
	// Expires and ExpireAfter (from Now) replace the unsigned document's expiry. At most one may be set.
	Expires     *time.Time
	ExpireAfter *uptane.Period
	// Lifetime, from Now, is for a document for which nobody names a date, if its present date is earlier; nil: the present
	// date stays. A date that was set in the unsigned targets by hand, or with targets init, stays too.
	Lifetime *uptane.Period
	// Force lets the expiry lie in the past.
	Force bool
	// Signatures made elsewhere, by key name. They are over the unsigned document as it stands, whose version is not
	// raised, or over the signed one.
	Signatures map[string][]byte
	// Policy is checked before signing; nil checks nothing.
	Policy *uptane.Policy
	// Confirm sees what is about to be signed, and ends it with an error. nil confirms everything.
	Confirm func(*uptane.Diff, []uptane.Finding) error
	// Now is the present.
	Now time.Time
}

// Signed is the outcome of signing.
type Signed struct {
	Path     string
	Document uptane.Document
	// Standing is who has signed and who is missing.
	Standing []uptane.Standing
	Diff     *uptane.Diff
	Findings []uptane.Finding
	// Discarded are key ids whose earlier signatures were over other content of the same version and are gone.
	Discarded []string
	// Foreign are key ids that signed although their signature does not count for the document.
	Foreign []string
}

// job is one run of a sign command.
type job struct {
	r       *Repository
	o       SignOptions
	role    uptane.Role
	version int // of the unsigned document
	expires time.Time
	build   func(version int, expires time.Time) (uptane.Document, error)
	have    uptane.Document // the signed file that is there
	// held are the targets that were signed or pulled last; nil for a root.
	held []uptane.Document
	// authority says who must sign, and what the document replaces (nil if unknown).
	authority func(uptane.Document) (uptane.Authority, uptane.Document, error)
}

func (j *job) run() (*Signed, error) {
	o := &j.o
	if o.Context == nil {
		o.Context = context.Background()
	}
	if o.Now.IsZero() {
		return nil, advice.New(advice.Usage, "", "the time of signing is not set")
	}
	if len(o.Keys) == 0 && len(o.Signatures) == 0 {
		return nil, advice.New(advice.Usage, "name a key, or give signatures", "nothing to sign with")
	}
	if o.Expires != nil && o.ExpireAfter != nil {
		return nil, advice.New(advice.Usage, "", "the expiry must be given either as a date or as a period, not both")
	}
	if len(o.Signatures) > 0 && (o.Version != nil || o.Expires != nil || o.ExpireAfter != nil) {
		return nil, advice.New(advice.Usage, "set version and expiry in the unsigned file before it is signed elsewhere",
			"signatures from elsewhere are over fixed content, so that version and expiry cannot be set")
	}
	external, err := j.external()
	if err != nil {
		return nil, err
	}
	doc, err := j.document(external)
	if err != nil {
		return nil, err
	}
	if doc.Expires().Before(o.Now) && !o.Force {
		return nil, advice.New(advice.Refused, "give another date, or --force", "the expiry %s is in the past", doc.Expires().Format(time.RFC3339))
	}
	authority, previous, err := j.authority(doc)
	if err != nil {
		return nil, err
	}
	out := &Signed{Diff: uptane.DiffDocuments(previous, doc)}
	if o.Policy != nil {
		if out.Findings, err = o.Policy.Check(doc, o.Now); err != nil {
			return nil, err
		}
	}
	if o.Confirm != nil {
		if err := o.Confirm(out.Diff, out.Findings); err != nil {
			return nil, err
		}
	}
	for _, name := range o.Keys {
		if doc, err = j.signWith(doc, name); err != nil {
			return nil, err
		}
	}
	if j.have != nil && !uptane.SameContent(j.have, doc) && j.have.Version() == doc.Version() {
		for _, s := range j.have.Signatures() {
			out.Discarded = append(out.Discarded, s.KeyID)
		}
	}
	for _, s := range doc.Signatures() {
		if _, ok := authority.Key(s.KeyID); !ok {
			out.Foreign = append(out.Foreign, s.KeyID)
		}
	}
	out.Document, out.Standing = doc, authority.Standing(doc)
	out.Path = j.r.Path("roles/" + string(j.role) + ".json")
	return out, durable.WriteFile(out.Path, doc.Bytes(), 0o600)
}

// external reads the public keys that signatures from elsewhere belong to.
func (j *job) external() (map[string]uptane.Signature, error) {
	out := map[string]uptane.Signature{}
	for name, sig := range j.o.Signatures {
		k, err := j.r.keys.Public(name)
		if err != nil {
			return nil, err
		}
		out[name] = uptane.Signature{KeyID: k.ID(), Method: k.Method(), Sig: sig}
	}
	return out, nil
}

// document is what is to be signed, with the signatures that stay and those from elsewhere.
func (j *job) document(external map[string]uptane.Signature) (uptane.Document, error) {
	if len(external) > 0 {
		return j.withExternal(external)
	}
	version, expires := j.version+1, j.expires
	if j.o.Version != nil {
		version = *j.o.Version
	}
	switch {
	case j.o.Expires != nil:
		expires = *j.o.Expires
	case j.o.ExpireAfter != nil:
		expires = j.o.ExpireAfter.After(j.o.Now)
	case j.o.Lifetime != nil && !j.dateSet():
		if least := j.o.Lifetime.After(j.o.Now); expires.Before(least) {
			expires = least
		}
	}
	if version > uptane.MaxVersion {
		return nil, advice.New(advice.Refused, "if a thief went up to it, change the key in the root and push that; then sign with --version and the version after the last that you made yourself",
			"version %d is the last that devices can count to", uptane.MaxVersion)
	}
	doc, err := j.build(version, expires)
	if err != nil {
		return nil, err
	}
	if j.have == nil || j.have.Version() != version {
		return doc, nil
	}
	if uptane.SameContent(j.have, doc) {
		return j.have, nil
	}
	// Officers sign one after another, each with the same relative expiry: the date of the first one holds as long as
	// all else is the same and the key that signs now has not signed yet.
	if j.o.Expires == nil && uptane.SameButExpiry(doc, j.have) && !j.allSigned() {
		return j.have, nil
	}
	return doc, nil
}

// dateSet reports whether somebody set the date of unsigned targets: no targets had it before, and it is still to come.
func (j *job) dateSet() bool {
	return j.role == uptane.RoleTargets && j.expires.After(j.o.Now) &&
		!slices.ContainsFunc(j.held, func(d uptane.Document) bool { return d.Expires().Equal(j.expires) })
}

// allSigned reports whether every key that is to sign has signed what is there.
func (j *job) allSigned() bool {
	for _, name := range j.o.Keys {
		if IsURI(name) {
			return false
		}
		k, err := j.r.keys.Public(name)
		if err != nil || !slices.ContainsFunc(j.have.Signatures(), func(s uptane.Signature) bool { return s.KeyID == k.ID() }) {
			return false
		}
	}
	return true
}

// withExternal finds which document signatures from elsewhere are over: the signed one that is there, or the unsigned
// one as it stands.
func (j *job) withExternal(external map[string]uptane.Signature) (uptane.Document, error) {
	var candidates []uptane.Document
	if j.have != nil {
		candidates = append(candidates, j.have)
	}
	if unsigned, err := j.build(j.version, j.expires); err == nil {
		if j.have == nil || !uptane.SameContent(unsigned, j.have) {
			candidates = append(candidates, unsigned)
		}
	} else if j.have == nil {
		return nil, err
	}
	var failures []error
	for _, doc := range candidates {
		added := doc
		var err error
		for _, name := range slices.Sorted(maps.Keys(external)) {
			var k uptane.Key
			if k, err = j.r.keys.Public(name); err != nil {
				return nil, err
			}
			if added, err = uptane.AttachSignature(added, k, external[name]); err != nil {
				err = fmt.Errorf("wrong signature by %s: %w", name, err)
				break
			}
		}
		if err == nil {
			return added, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

func (j *job) signWith(doc uptane.Document, name string) (uptane.Document, error) {
	signer, closer, err := j.r.keys.Signer(j.o.Context, name)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return signOne(doc, signer)
}

func signOne(doc uptane.Document, signer crypto.Signer) (uptane.Document, error) {
	return uptane.AddSignatures(doc, signer)
}
