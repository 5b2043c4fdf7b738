package uptane

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// Review is a request held against the root that an officer keeps; only a Review can be signed. A requester chooses every
// byte of a request. What the officer is shown, and whose signatures count, is worked out from the kept root and from
// what verifies under it. The rest of the request is a claim, and Unverified says which claims nothing vouches for.
type Review struct {
	request  *Request
	trusted  *Root
	a        Authority
	previous Document // what the document is compared with, nil for nothing
	doubts   []string
}

// NewReview judges a request against the root that the officer keeps, of the repository that the officer says it belongs
// to: a root does not say so itself. Refused are:
//   - a request without a root kept, or with another one than the kept one;
//   - a root that does not replace the kept one;
//   - a key that stands in two roles, before and after the change;
//   - a delegation's document with names outside the delegation's paths.
//
// A previous document or a delegating parent that does not verify under the kept root is no reason to refuse, for drafts
// are signed in the order in which people meet. It is a reason to compare with nothing, and to say so.
func NewReview(r *Request, which Repository, trusted *Root) (*Review, error) {
	v := &Review{request: r, trusted: trusted}
	if trusted == nil {
		return nil, refused(hinted(ErrUntrusted, "keep the repository's root.json where nobody else can change it, and name it", "no root is trusted, so that nothing can be signed"))
	}
	if err := VerifyRoot(trusted); err != nil {
		return nil, err
	}
	if r.repo != which {
		return nil, refused(hinted(ErrUntrusted, "a root and its targets belong to one repository: ask what the request is for",
			"the request is for the %s repository, the root that you trust is the %s's", r.repo, which))
	}
	err := v.checkRoot()
	if err == nil {
		err = v.checkRoles()
	}
	if err == nil {
		err = v.checkPaths()
	}
	if err != nil {
		return nil, refused(err)
	}
	return v, nil
}

// checkRoot holds what the request says about roots, previous and parent against the trusted root.
func (v *Review) checkRoot() error {
	r := v.request
	if r.root != nil && !SameContent(r.root, v.trusted) {
		return hinted(ErrUntrusted, "ask where the request comes from; or add the roots in between with --root-chain",
			"the request's root, version %d, is not the one that you trust, version %d", r.root.version, v.trusted.version)
	}
	if next, ok := r.doc.(*Root); ok {
		if r.root == nil {
			return hinted(ErrUntrusted, "a repository's first root is signed in a ceremony, or by its server", "the request names no root that %s follows", r.Title())
		}
		if r.previous != nil && !SameContent(r.previous, v.trusted) {
			return hinted(ErrUntrusted, "ask who made the request: what it says is replaced is not what would be replaced",
				"what the request says is replaced, a root of version %d, is not the root that you trust", r.previous.Version())
		}
		v.previous, v.a = v.trusted, RootAuthority(v.trusted, next)
		return nil
	}
	if r.root == nil && r.parent == nil {
		return because(ErrUntrusted, "the request holds no root")
	}
	v.a = RoleAuthority(v.trusted, r.doc.Role())
	if r.parent != nil {
		if err := v.a.Verify(r.parent); err != nil {
			v.doubt("that targets version %d delegate to %s is unverified: %v", r.parent.version, r.name, err)
		}
		a, err := DelegationAuthority(r.parent, r.name)
		if err != nil {
			return err
		}
		v.a = a
	}
	v.compare()
	return nil
}

func (v *Review) doubt(format string, args ...any) {
	v.doubts = append(v.doubts, fmt.Sprintf(format, args...))
}

// compare takes the previous document for comparing only if it verifies, and is the version just before: an older one
// would hide what was withdrawn since and comes back.
func (v *Review) compare() {
	r := v.request
	switch {
	case len(v.doubts) > 0:
	case r.previous == nil:
		if r.doc.Version() > 1 {
			v.doubt("what version %d replaces is unverified: the request does not hold it", r.doc.Version())
		}
	case r.previous.Version() != r.doc.Version()-1:
		v.doubt("what version %d replaces is unverified: the request holds version %d, and what came after it is not shown", r.doc.Version(), r.previous.Version())
	default:
		if err := v.a.Verify(r.previous); err != nil {
			v.doubt("what version %d replaces is unverified: %v", r.doc.Version(), err)
			return
		}
		v.previous = r.previous
	}
}

// checkRoles refuses a key that stands, or would stand, in two roles: whoever holds it could sign for both, and a
// signature for the one could be passed off as one for the other.
func (v *Review) checkRoles() error {
	switch doc := v.request.doc.(type) {
	case *Root:
		if err := oneRoleEach(doc); err != nil {
			return err
		}
		for _, name := range Roles() {
			for _, k := range doc.roles[name].Keys {
				if was := rolesOf(v.trusted, k); len(was) > 0 && !slices.Contains(was, name) {
					return hinted(ErrRoles, "make a new key for each role", "key %s, which serves %s today, would serve %s", k.id, was[0], name)
				}
			}
		}
	case *Targets:
		if v.request.parent == nil {
			if err := oneRoleEach(v.trusted); err != nil {
				return err
			}
		}
		rules := v.request.parentRules()
		for _, d := range doc.delegations {
			rules = append(rules, Rule{"delegation " + d.Name, d.RoleKeys})
		}
		for _, rule := range rules {
			for _, k := range rule.Keys {
				if was := rolesOf(v.trusted, k); len(was) > 0 {
					return hinted(ErrRoles, "let whoever signs for the delegation make a key for it alone", "key %s of %s also serves %s", k.id, show.Text(rule.Name), was[0])
				}
			}
		}
	}
	return nil
}

// parentRules is the rule of the delegation that a request is for, none for other requests.
func (r *Request) parentRules() []Rule {
	if d, ok := r.delegation(); ok {
		return []Rule{{"delegation " + d.Name, d.RoleKeys}}
	}
	return nil
}

func (r *Request) delegation() (Delegation, bool) {
	if r.parent == nil {
		return Delegation{}, false
	}
	return r.parent.Delegation(r.name)
}

func oneRoleEach(root *Root) error {
	for _, name := range Roles() {
		for _, k := range root.roles[name].Keys {
			if in := rolesOf(root, k); len(in) > 1 {
				return hinted(ErrRoles, "make a new key for each role, and sign a root that says so", "key %s serves both %s and %s in root version %d", k.id, in[0], in[1], root.version)
			}
		}
	}
	return nil
}

func rolesOf(root *Root, k Key) []Role {
	var out []Role
	for _, name := range Roles() {
		if slices.ContainsFunc(root.roles[name].Keys, func(have Key) bool { return have.spki == k.spki }) {
			out = append(out, name)
		}
	}
	return out
}

// checkPaths refuses a delegation's document with names that the delegation does not cover: no device would find them.
func (v *Review) checkPaths() error {
	d, ok := v.request.delegation()
	if !ok {
		return nil
	}
	t := v.request.doc.(*Targets)
	for _, name := range t.Names() {
		if !d.Matches(name) {
			return because(ErrDelegation, "target %q is outside the paths of delegation %s", name, d.Name)
		}
	}
	return nil
}

// Request is what was judged.
func (v *Review) Request() *Request { return v.request }

// Authority is whose signatures count, by the trusted root, or by a parent that Unverified speaks of.
func (v *Review) Authority() Authority { return v.a }

// Unverified says what the request claims and nothing vouches for. If there is anything, Diff shows everything as new, and
// the officer has to confirm in other words.
func (v *Review) Unverified() []string { return slices.Clone(v.doubts) }

// Diff is the document beside what it replaces, if that verifies; otherwise everything is new.
func (v *Review) Diff() *Diff { return DiffDocuments(v.previous, v.request.doc) }

// Word is what the officer types to sign.
func (v *Review) Word() string {
	if len(v.doubts) > 0 {
		return "Unverified"
	}
	return "Yes"
}

// String is all that an officer needs to judge, beside the digest of the request.
func (v *Review) String() string {
	var b strings.Builder
	for _, d := range v.doubts {
		fmt.Fprintf(&b, "UNVERIFIED: %s\n", d)
	}
	if len(v.doubts) > 0 {
		b.WriteString("Everything is shown as new, because there is nothing to compare it with.\n")
	}
	b.WriteString(strings.TrimRight(v.Diff().String(), "\n"))
	b.WriteByte('\n')
	return b.String()
}
