package uptane

import (
	"encoding/hex"
	"fmt"
)

// Request asks an officer on another machine for a signature. It carries the document, what it replaces, and the
// document that says whose signatures count. It is not signed, and whoever writes it chooses every byte: an officer holds
// it against the root that the officer keeps (NewReview), and a Response is bound to the exact bytes.
type Request struct {
	repo     Repository
	name     string // the delegation's name, empty for others
	doc      Document
	previous Document // nil for a first version
	root     *Root    // nil for a repository's first root
	parent   *Targets // for a delegation: what delegates to it
}

// RequestConfig is what NewRequest makes a Request of.
type RequestConfig struct {
	Repository Repository
	// Document is to be signed; the signatures that it has already go along.
	Document Document
	// Previous is the version before it, nil if there is none.
	Previous Document
	// Root says who signs: for a root, the root before it (nil for the first); for others, the current root.
	Root *Root
	// Parent and Delegation are set for a delegation's metadata: the targets that delegate, and the name.
	Parent     *Targets
	Delegation string
}

// NewRequest checks that the parts belong together.
func NewRequest(c RequestConfig) (*Request, error) {
	r := &Request{repo: c.Repository, name: c.Delegation, doc: c.Document, previous: c.Previous, root: c.Root, parent: c.Parent}
	if err := r.check(); err != nil {
		return nil, refused(err)
	}
	return r, nil
}

func (r *Request) check() error {
	if r.repo != Image && r.repo != Director {
		return because(ErrMalformed, "repository %q is neither image nor director", r.repo)
	}
	if r.doc == nil {
		return because(ErrMalformed, "the request holds no document")
	}
	if r.previous != nil {
		if r.previous.Role() != r.doc.Role() {
			return because(ErrType, "the previous document is %s, the one to sign %s", r.previous.Role(), r.doc.Role())
		}
		if r.doc.Version() <= r.previous.Version() {
			return because(ErrRollback, "version %d is not higher than the previous one, %d", r.doc.Version(), r.previous.Version())
		}
	}
	if t, ok := r.doc.(*Targets); ok && t.repo != r.repo {
		return because(ErrMalformed, "the request is for the %s repository, the targets are the %s's", r.repo, t.repo)
	}
	switch {
	case r.doc.Role() == RoleRoot:
		if r.name != "" || r.parent != nil {
			return because(ErrMalformed, "a root is no delegation")
		}
		if r.root != nil && r.doc.Version() != r.root.version+1 {
			return because(ErrVersion, "root version %d cannot follow version %d", r.doc.Version(), r.root.version)
		}
		if r.root == nil && r.doc.Version() != 1 {
			return because(ErrVersion, "root version %d comes without the root before it", r.doc.Version())
		}
	case r.name != "" || r.parent != nil:
		if r.parent == nil || r.doc.Role() != RoleTargets {
			return because(ErrDelegation, "a delegation's request needs the targets that delegate to it")
		}
		if _, ok := r.parent.Delegation(r.name); !ok {
			return because(ErrDelegation, "the parent does not delegate to %q", r.name)
		}
	case r.root == nil:
		return because(ErrMalformed, "the request holds no root that says who signs")
	}
	return nil
}

// Repository is the repository of the document.
func (r *Request) Repository() Repository { return r.repo }

// Document is what is to be signed, with the signatures that it has.
func (r *Request) Document() Document { return r.doc }

// Previous is what the document replaces, nil if nothing.
func (r *Request) Previous() Document { return r.previous }

// Root is the root that the request says is in force, nil for a repository's first. An officer who keeps the root
// compares the two.
func (r *Request) Root() *Root { return r.root }

// Delegation is the delegation's name, empty for other documents.
func (r *Request) Delegation() string { return r.name }

// Title names the document for people.
func (r *Request) Title() string {
	if r.name != "" {
		return fmt.Sprintf("%s delegation %s version %d", r.repo, r.name, r.doc.Version())
	}
	return fmt.Sprintf("%s %s version %d", r.repo, r.doc.Role(), r.doc.Version())
}

// Digest is the hex SHA-256 of the bytes to be signed, for officers to compare and to confirm.
func (r *Request) Digest() string { return hexDigest(r.doc) }

func hexDigest(doc Document) string {
	d := doc.Digest()
	return hex.EncodeToString(d[:])
}

// Authority is whose signatures the document needs, worked out from the root or parent inside the request. It is for the
// office that made the request; an officer who was given one asks the Review.
func (r *Request) Authority() Authority {
	switch doc := r.doc.(type) {
	case *Root:
		return RootAuthority(r.root, doc)
	default:
		if r.parent != nil {
			a, _ := DelegationAuthority(r.parent, r.name)
			return a
		}
		return RoleAuthority(r.root, r.doc.Role())
	}
}

// Bytes is the request as a file, the same for the same content.
func (r *Request) Bytes() []byte {
	var w writer
	optional := func(key string, doc Document) {
		w.key(key)
		if doc == nil {
			w.raw("null")
			return
		}
		w.text(string(doc.Bytes()))
	}
	w.open()
	w.key("delegation")
	w.text(r.name)
	w.key("digest")
	w.text(r.Digest())
	optional("document", r.doc)
	w.key("format")
	w.text(requestFormat)
	optional("parent", orNil(r.parent))
	optional("previous", r.previous)
	w.key("repository")
	w.text(string(r.repo))
	w.key("role")
	w.text(string(r.doc.Role()))
	optional("root", orNil(r.root))
	w.close()
	return seal(w.b)
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil[T any, P interface {
	*T
	Document
}](p P) Document {
	if p == nil {
		return nil
	}
	return p
}

// ParseRequest reads a request and checks that its parts belong together and that its digest is the document's.
func ParseRequest(data []byte, opts ...Option) (*Request, error) {
	r, err := parseRequest(data, opts)
	return r, unverified(err)
}

func parseRequest(data []byte, opts []Option) (*Request, error) {
	v, err := unseal("request", data)
	if err != nil {
		return nil, err
	}
	rd := reader{where: "request"}
	o := rd.object(&v)
	rd.only(o, "delegation", "digest", "document", "format", "parent", "previous", "repository", "role", "root")
	if f := rd.text(o, "format"); rd.err == nil && f != requestFormat {
		rd.fail(ErrType, "format is %q, not %q", f, requestFormat)
	}
	r := &Request{repo: Repository(rd.text(o, "repository")), name: rd.text(o, "delegation")}
	role, digest := Role(rd.text(o, "role")), rd.text(o, "digest")
	part := func(key string, role Role) Document {
		m := rd.member(o, key)
		if rd.err != nil || m.kind == null {
			return nil
		}
		doc, err := ParseDocument(r.repo, role, []byte(rd.asText(key, m)), opts...)
		if err != nil && rd.err == nil {
			rd.err = inside("request: "+key, err)
		}
		return doc
	}
	r.doc, r.previous = part("document", role), part("previous", role)
	if root, ok := part("root", RoleRoot).(*Root); ok {
		r.root = root
	}
	if parent, ok := part("parent", RoleTargets).(*Targets); ok {
		r.parent = parent
	}
	if rd.err != nil {
		return nil, rd.err
	}
	if err := r.check(); err != nil {
		return nil, inside("request", err)
	}
	if r.Digest() != digest {
		return nil, because(ErrHash, "request: its digest %s is not that of the document, %s", digest, r.Digest())
	}
	for _, st := range r.Authority().Standing(r.doc) {
		for id, err := range st.Invalid {
			return nil, inside("request: signature of "+id, err)
		}
	}
	return r, nil
}
