package uptane

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// Authority says whose signatures a document needs. Most documents answer to one rule; a root after the first answers
// to two, that of the root before it and its own.
type Authority struct{ rules []Rule }

// Rule is one threshold of keys, and what it is called in messages.
type Rule struct {
	Name string
	RoleKeys
}

// RootAuthority is whose signatures next needs. prev is the root before it, nil for a repository's first.
func RootAuthority(prev, next *Root) Authority {
	var a Authority
	if prev != nil {
		a.rules = append(a.rules, Rule{fmt.Sprintf("root version %d", prev.version), prev.Keys(RoleRoot)})
	}
	a.rules = append(a.rules, Rule{fmt.Sprintf("root version %d", next.version), next.Keys(RoleRoot)})
	return a
}

// RoleAuthority is whose signatures a targets, snapshot or timestamp document needs under this root.
func RoleAuthority(root *Root, role Role) Authority {
	return Authority{[]Rule{{fmt.Sprintf("role %s of root version %d", role, root.version), root.Keys(role)}}}
}

// DelegationAuthority is whose signatures a delegation's metadata needs under the document that delegates to it.
func DelegationAuthority(parent *Targets, name string) (Authority, error) {
	d, ok := parent.Delegation(name)
	if !ok {
		return Authority{}, unverified(because(ErrDelegation, "targets version %d do not delegate to %q", parent.version, name))
	}
	return Authority{[]Rule{{"delegation " + name, d.RoleKeys}}}, nil
}

// Rules lists what must be met, each by itself.
func (a Authority) Rules() []Rule { return slices.Clone(a.rules) }

// Key finds a key of any of the rules.
func (a Authority) Key(id string) (Key, bool) {
	for _, r := range a.rules {
		for _, k := range r.Keys {
			if k.id == id {
				return k, true
			}
		}
	}
	return Key{}, false
}

// Standing is how far a document is with one rule.
type Standing struct {
	Rule      string
	Threshold int
	// Signed and Missing are the keys with and without a valid signature.
	Signed  []Key
	Missing []Key
	// Invalid are those whose signature is there and does not verify, with the reason.
	Invalid map[string]error
}

// Met reports whether the threshold is reached.
func (s Standing) Met() bool { return s.Threshold > 0 && len(s.Signed) >= s.Threshold }

// Standing verifies the document's signatures and says for each rule who has signed and who is missing. Keys are
// counted once however often they are listed: they are compared by SubjectPublicKeyInfo.
func (a Authority) Standing(doc Document) []Standing {
	message := doc.content()
	byID := map[string]Signature{}
	for _, s := range doc.Signatures() {
		byID[s.KeyID] = s
	}
	verdicts := map[string]error{}
	out := make([]Standing, 0, len(a.rules))
	for _, r := range a.rules {
		st := Standing{Rule: r.Name, Threshold: r.Threshold, Invalid: map[string]error{}}
		counted := map[string]bool{}
		for _, k := range r.Keys {
			if counted[k.spki] {
				continue
			}
			counted[k.spki] = true
			sig, ok := byID[k.id]
			if !ok {
				st.Missing = append(st.Missing, k)
				continue
			}
			err, known := verdicts[k.id]
			if !known {
				err = k.verify(message, sig)
				verdicts[k.id] = err
			}
			if err != nil {
				st.Missing = append(st.Missing, k)
				st.Invalid[k.id] = err
				continue
			}
			st.Signed = append(st.Signed, k)
		}
		out = append(out, st)
	}
	return out
}

// Verify refuses a document that lacks a threshold of valid signatures by different keys.
func (a Authority) Verify(doc Document) error { return unverified(a.check(doc)) }

func (a Authority) check(doc Document) error {
	if len(a.rules) == 0 {
		return because(ErrThreshold, "%s version %d answers to no rule", doc.Role(), doc.Version())
	}
	for _, st := range a.Standing(doc) {
		if st.Met() {
			continue
		}
		var why []string
		sentinel := ErrThreshold
		for _, k := range st.Missing {
			if err, ok := st.Invalid[k.id]; ok {
				why = append(why, err.Error())
			} else {
				why = append(why, "key "+k.id+" has not signed")
			}
		}
		return because(sentinel, "%s version %d: %s needs %d signatures and has %d valid (%s)", doc.Role(), doc.Version(),
			show.Text(st.Rule), st.Threshold, len(st.Signed), strings.Join(why, "; "))
	}
	return nil
}

// Emit returns the canonical bytes of a document that is complete: what it answers to is met and no signature is
// superfluous or broken. Anything that is to be pushed to a server or given to a device goes through it.
func Emit(doc Document, a Authority) ([]byte, error) {
	if err := a.check(doc); err != nil {
		return nil, refused(err)
	}
	message := doc.content()
	for _, s := range doc.Signatures() {
		k, ok := a.Key(s.KeyID)
		if !ok {
			return nil, refused(because(ErrSignature, "%s version %d is signed by %s, whose signature it does not need", doc.Role(), doc.Version(), show.Text(s.KeyID)))
		}
		if err := k.verify(message, s); err != nil {
			return nil, refused(err)
		}
	}
	if err := checkSize(string(doc.Role())+" metadata", doc); err != nil {
		return nil, refused(err)
	}
	return doc.Bytes(), nil
}

// AttachSignature adds a signature that was made elsewhere after verifying it, in place of one by the same key.
func AttachSignature[D Document](doc D, k Key, s Signature) (D, error) {
	var none D
	if s.KeyID != k.id {
		return none, refused(because(ErrKeyID, "the signature is by key %s, not %s", show.Text(s.KeyID), k.id))
	}
	if err := k.verify(doc.content(), s); err != nil {
		return none, refused(err)
	}
	list := slices.DeleteFunc(doc.Signatures(), func(have Signature) bool { return have.KeyID == s.KeyID })
	if len(list) >= MaxSignatures {
		return none, refused(because(ErrTooLarge, "more than %d signatures", MaxSignatures))
	}
	out := doc.with(append(list, s)).(D)
	if err := checkSize(string(doc.Role())+" metadata", out); err != nil {
		return none, refused(err)
	}
	return out, nil
}
