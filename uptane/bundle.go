package uptane

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

const (
	requestFormat  = "hanaper-uptane-request-v1"
	responseFormat = "hanaper-uptane-response-v1"
)

// Request asks an officer on another machine for a signature. It carries all that the officer needs to judge: the
// document, what it replaces, and the document that says whose signatures count. It is not signed; what makes it safe
// is that the officer compares the digest and reads the diff, and that a Response is bound to the exact bytes.
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

// Authority is whose signatures the document needs, worked out from the root or parent inside the request.
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

// Diff compares with what the document replaces.
func (r *Request) Diff() *Diff { return DiffDocuments(r.previous, r.doc) }

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

// seal appends a line with the digest of the line before it: bundles travel on media that flip bits, and a changed
// byte anywhere must not go unnoticed. It proves no origin.
func seal(line []byte) []byte {
	sum := sha256.Sum256(line)
	return append(append(line, '\n'), base64.StdEncoding.EncodeToString(sum[:])+"\n"...)
}

func unseal(what string, data []byte) (value, error) {
	if len(data) > maxBundle {
		return value{}, because(ErrTooLarge, "%s of %d bytes is larger than %d", what, len(data), maxBundle)
	}
	body, sum, found := strings.Cut(string(data), "\n")
	want := sha256.Sum256([]byte(body))
	if !found || sum != base64.StdEncoding.EncodeToString(want[:])+"\n" {
		return value{}, hinted(ErrHash, "carry it over again", "%s: its checksum does not match, so it was changed or cut on the way", what)
	}
	v, err := parseJSON([]byte(body))
	if err != nil {
		return value{}, inside(what, err)
	}
	return v, nil
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

// ParseDocument reads a document of a role.
func ParseDocument(repo Repository, role Role, data []byte, opts ...Option) (doc Document, err error) {
	switch role {
	case RoleRoot:
		doc, err = ParseRoot(data, opts...)
	case RoleTargets:
		doc, err = ParseTargets(repo, data, opts...)
	case RoleSnapshot:
		doc, err = ParseSnapshot(data, opts...)
	case RoleTimestamp:
		doc, err = ParseTimestamp(data, opts...)
	default:
		err = unverified(because(ErrType, "%q is not a role with a document", role))
	}
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// Response is what an officer sends back: signatures over exactly the bytes of one document.
type Response struct {
	Repository Repository
	Delegation string
	Role       Role
	Version    int
	// Digest is the hex SHA-256 of the signed bytes.
	Digest     string
	Signatures []Signature
}

// SignRequest signs a request's document with keys that it needs and returns the response. A key whose signature does
// not count is refused. The caller has shown the officer the diff and had the digest confirmed.
func SignRequest(r *Request, keys ...crypto.Signer) (*Response, error) {
	if len(keys) == 0 {
		return nil, refused(because(ErrKeyType, "no key to sign with"))
	}
	a, message := r.Authority(), r.doc.Signed()
	out := &Response{Repository: r.repo, Delegation: r.name, Role: r.doc.Role(), Version: r.doc.Version(), Digest: r.Digest()}
	for _, signer := range keys {
		k, err := NewKey(signer.Public())
		if err != nil {
			return nil, refused(err)
		}
		if _, ok := a.Key(k.id); !ok {
			return nil, refused(hinted(ErrThreshold, "sign with a key that the root or the delegation lists", "%s does not need a signature of key %s", r.Title(), k.id))
		}
		if slices.ContainsFunc(out.Signatures, func(s Signature) bool { return s.KeyID == k.id }) {
			return nil, refused(because(ErrRepeatedKey, "key %s is given twice", k.id))
		}
		_, s, err := signMessage(signer, message)
		if err != nil {
			return nil, refused(err)
		}
		out.Signatures = append(out.Signatures, s)
	}
	out.Signatures = sorted(out.Signatures)
	return out, nil
}

// Bytes is the response as a file.
func (r *Response) Bytes() []byte {
	var w writer
	w.open()
	w.key("delegation")
	w.text(r.Delegation)
	w.key("digest")
	w.text(r.Digest)
	w.key("format")
	w.text(responseFormat)
	w.key("repository")
	w.text(string(r.Repository))
	w.key("role")
	w.text(string(r.Role))
	w.key("signatures")
	w.raw("[")
	for i, s := range r.Signatures {
		if i > 0 {
			w.raw(",")
		}
		s.write(&w)
	}
	w.raw("]")
	w.key("version")
	w.raw(fmt.Sprint(r.Version))
	w.close()
	return seal(w.b)
}

// ParseResponse reads a response. Whether its signatures verify is for Merge to say, which has the document.
func ParseResponse(data []byte) (*Response, error) {
	r, err := parseResponse(data)
	return r, unverified(err)
}

func parseResponse(data []byte) (*Response, error) {
	v, err := unseal("response", data)
	if err != nil {
		return nil, err
	}
	rd := reader{where: "response"}
	o := rd.object(&v)
	rd.only(o, "delegation", "digest", "format", "repository", "role", "signatures", "version")
	if f := rd.text(o, "format"); rd.err == nil && f != responseFormat {
		rd.fail(ErrType, "format is %q, not %q", f, responseFormat)
	}
	r := &Response{
		Repository: Repository(rd.text(o, "repository")), Delegation: rd.text(o, "delegation"), Role: Role(rd.text(o, "role")),
		Digest: rd.text(o, "digest"), Version: int(rd.integer(o, "version", 0, MaxVersion)),
	}
	list := rd.member(o, "signatures")
	if rd.err != nil {
		return nil, rd.err
	}
	if r.Signatures, err = signaturesOf(list); err != nil {
		return nil, inside("response", err)
	}
	if len(r.Signatures) == 0 {
		return nil, because(ErrSignature, "response: it holds no signature")
	}
	return r, nil
}

// Merge adds the signatures of responses to a request's document. All must be over its exact bytes, by keys that it
// needs, and verify; the outcome does not depend on their order. It is complete when Emit says so.
func Merge(r *Request, responses ...*Response) (Document, error) {
	a, message := r.Authority(), r.doc.Signed()
	list := r.doc.Signatures()
	for _, resp := range responses {
		if resp.Repository != r.repo || resp.Role != r.doc.Role() || resp.Delegation != r.name || resp.Version != r.doc.Version() {
			return nil, unverified(because(ErrType, "the response is for the %s repository's %s%s version %d, the request is for %s", resp.Repository,
				resp.Role, map[bool]string{true: " " + resp.Delegation}[resp.Delegation != ""], resp.Version, r.Title()))
		}
		if resp.Digest != r.Digest() {
			return nil, unverified(because(ErrHash, "the response is over other bytes (%s) than the request's (%s)", resp.Digest, r.Digest()))
		}
		for _, s := range resp.Signatures {
			k, ok := a.Key(s.KeyID)
			if !ok {
				return nil, unverified(because(ErrSignature, "%s does not need a signature of key %s", r.Title(), s.KeyID))
			}
			if err := k.verify(message, s); err != nil {
				return nil, unverified(err)
			}
			at := slices.IndexFunc(list, func(have Signature) bool { return have.KeyID == s.KeyID })
			switch {
			case at < 0:
				list = append(list, s)
			case string(s.Sig) < string(list[at].Sig):
				// Two valid signatures of one key: keep the same one whatever the order.
				list[at] = s
			}
		}
	}
	doc := r.doc.with(list)
	return doc, refused(checkSize(r.Title(), doc))
}
