package uptane

import (
	"crypto"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/internal/show"
)

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

// SignRequest signs the document of a request that was reviewed, with keys that it needs, and returns the response. A key
// whose signature does not count is refused. The caller has shown the officer the review and had its Word typed.
func SignRequest(v *Review, keys ...crypto.Signer) (*Response, error) {
	if len(keys) == 0 {
		return nil, refused(because(ErrKeyType, "no key to sign with"))
	}
	r := v.request
	a, message := v.a, r.doc.content()
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
	a, message := r.Authority(), r.doc.content()
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
				return nil, unverified(because(ErrSignature, "%s does not need a signature of key %s", r.Title(), show.Text(s.KeyID)))
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
	if err := checkSize(r.Title(), doc); err != nil {
		return nil, refused(err)
	}
	return doc, nil
}
