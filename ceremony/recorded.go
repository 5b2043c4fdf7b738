package ceremony

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
)

// A finished transcript is verified without building anything anew: what was signed is taken from the folder, matched
// with the recorded signatures, and what it says is compared with the script. So a later release, which may build or
// encode otherwise, verifies it all the same.
//
// An aborted ceremony released nothing, and its folder holds nothing of it. What it would have released is built anew
// and compared with the recorded digests; where that fails, because this release builds otherwise, the report says so.

// recordedSignature is a signature in a transcript: what a key was about to sign, and what it answered.
type recordedSignature struct {
	in  signIntentLeaf
	sig []byte
	key *key
}

// errNotRecorded says that an aborted ceremony did not sign what would be signed today.
var errNotRecorded = errors.New("is not what the transcript has as signed")

// finished says whether the session follows the transcript of a ceremony that left its files.
func (s *Session) finished() bool { return !s.how.acts() && s.how.folder != nil }

// aborted says whether the session follows the transcript of a ceremony that released nothing.
func (s *Session) aborted() bool { return !s.how.acts() && s.how.folder == nil }

// signatures takes the signatures that the entries have at this place, up to the first other entry.
func (s *Session) signatures() ([]recordedSignature, error) {
	var list []recordedSignature
	for {
		data, err := s.next()
		if err != nil {
			return nil, s.fail(err)
		}
		h, err := headOf(data)
		if err != nil {
			return nil, s.fail(s.entryError(err))
		}
		if h.Kind != kindSignIntent {
			return list, nil
		}
		var r recordedSignature
		if err := s.follow(data, &r.in, kindSignIntent); err != nil {
			return nil, s.fail(err)
		}
		if r.key = s.state.keys[r.in.Key]; r.key == nil || r.key.destroyed || s.how.lacks(r.key) {
			return nil, s.fail(s.entryError(fmt.Errorf("(sign-intent) is by key %q, which cannot sign here", r.in.Key)))
		}
		if data, err = s.next(); err != nil {
			return nil, s.fail(err)
		}
		var out signatureLeaf
		if err := s.follow(data, &out, kindSignature); err != nil {
			return nil, s.fail(err)
		}
		r.sig = out.Signature
		list = append(list, r)
	}
}

// over says whether the signature is by its key, over the message, as its intent says.
func (r *recordedSignature) over(message []byte) bool {
	digest, opts := message, crypto.SignerOpts(crypto.Hash(0))
	if r.in.Hash != "" {
		hash, ok := hashNamed(r.in.Hash)
		if !ok {
			return false
		}
		h := hash.New()
		h.Write(message)
		digest, opts = h.Sum(nil), hash
		if r.in.Scheme == schemePSS {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
	}
	want, err := signIntent(r.key, digest, opts)
	return err == nil && want.Scheme == r.in.Scheme && want.Hash == r.in.Hash && want.Digest == r.in.Digest && signature.Verify(r.key.public, digest, opts, r.sig)
}

// hashNamed gives a hash by the name that a sign-intent has for it.
func hashNamed(name string) (crypto.Hash, bool) {
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if h.String() == name {
			return h, true
		}
	}
	return 0, false
}

// message is what one of several signatures of a step is over. With a signature, exactly that one must be recorded.
type message struct {
	what string
	key  *key
	text []byte
	sig  []byte
}

// match compares the recorded signatures of an act with the messages that were signed: one for one.
func (s *Session) match(list []recordedSignature, messages []message) error {
	for _, m := range messages {
		found := -1
		for i := range list {
			if list[i].key == m.key && (m.sig == nil || bytes.Equal(m.sig, list[i].sig)) && list[i].over(m.text) {
				found = i
				break
			}
		}
		if found < 0 {
			return s.fail(s.entryError(fmt.Errorf("(signature): none before it is by key %q over %s", m.key.name, show.Text(m.what))))
		}
		list = append(list[:found:found], list[found+1:]...)
	}
	if len(list) > 0 {
		return s.fail(s.entryError(fmt.Errorf("(signature): one before it, by key %q, is over nothing that the script has it sign", list[0].key.name)))
	}
	return nil
}

// recorded gives the signature that an aborted ceremony has for what would be signed today.
func (s *Session) recorded(in signIntentLeaf) ([]byte, error) {
	for {
		for i, r := range s.found {
			if r.in.Key == in.Key && r.in.Scheme == in.Scheme && r.in.Hash == in.Hash && r.in.Digest == in.Digest {
				s.found = append(s.found[:i:i], s.found[i+1:]...)
				return r.sig, nil
			}
		}
		more, err := s.signatures()
		if err != nil {
			return nil, err
		}
		if len(more) == 0 {
			return nil, fmt.Errorf("key %q: %w", in.Key, errNotRecorded)
		}
		s.found = append(s.found, more...)
	}
}

// rebuilt says whether an aborted ceremony signed what was built anew; it notes where that cannot be shown.
func (s *Session) rebuilt(what string, err error) (bool, error) {
	if err == nil && len(s.found) == 0 {
		return true, nil
	}
	if s.failed != nil {
		return false, s.failed
	}
	// What is left of the act is taken note of, so that the next one finds its own.
	if _, err := s.signatures(); err != nil {
		return false, err
	}
	s.found = nil
	s.note("%s: this release would sign something else than what was signed; nothing of it was released", what)
	return false, nil
}

// passOver takes all that an act of an aborted ceremony signed and stated, where it cannot be built anew.
func (s *Session) passOver(what string) error {
	for {
		if _, err := s.signatures(); err != nil {
			return err
		}
		data, err := s.next()
		if err != nil {
			return s.fail(err)
		}
		if h, err := headOf(data); err != nil || h.Kind != kindArtefact {
			s.note("%s: it is passed over, for this release would build otherwise what it is of; nothing of it was released", what)
			return nil
		}
		var l artefactLeaf
		if err := s.follow(data, &l, kindArtefact); err != nil {
			return s.fail(err)
		}
	}
}

// fromFolder gives a file that the transcript names, from the folder that is verified.
func (s *Session) fromFolder(path string) ([]byte, error) {
	if s.how.marked() {
		path += rehearsalSuffix
	}
	data, ok := s.how.folder[path]
	if !ok {
		return nil, s.fail(damaged(path, "is missing"))
	}
	return data, nil
}

// notAsAsked names a file that is well signed and not what the script asks for.
func (s *Session) notAsAsked(path string, err error) error {
	return s.fail(damaged(path, "is not what the script and the transcript, up to entry %d, lead to: %w", s.index, err))
}

// artefact states a file of the result. In a finished folder the content is taken from there, and same says whether it
// is what the step makes; without same it must be data.
func (s *Session) artefact(path string, data []byte, same func(data []byte) error) error {
	if len(path) > 250 || !fileForm.MatchString(path) {
		return s.fail(refuse(RuleOutput, "%q is no name for an output", path))
	}
	if s.finished() {
		found, err := s.fromFolder(path)
		if err != nil {
			return err
		}
		if same == nil && !bytes.Equal(found, data) {
			return s.notAsAsked(path, errors.New("its content is another"))
		} else if same != nil {
			if err := same(found); err != nil {
				return s.notAsAsked(path, err)
			}
		}
		data = found
	}
	if s.how.marked() {
		path += rehearsalSuffix
	}
	if _, ok := s.state.artefacts[path]; ok && !s.how.acts() {
		return s.fail(s.entryError(fmt.Errorf("(artefact) is about %s a second time", show.Text(path))))
	} else if ok {
		return s.fail(refuse(RuleOutput, "output %s would be written twice", show.Text(path)))
	}
	if err := s.stateArtefact(path, data); err != nil {
		return err
	}
	s.state.artefacts[path] = bytes.Clone(data)
	s.state.order = append(s.state.order, path)
	return nil
}

func (s *Session) stateArtefact(path string, data []byte) error {
	l := artefactLeaf{Path: path, SHA256: hexSHA256(data), Size: len(data)}
	if !s.aborted() {
		return s.emit(&l, kindArtefact)
	}
	var was artefactLeaf
	if err := s.outcome(&was, kindArtefact, nil, func() error {
		if was.Path != path {
			return fmt.Errorf("is about %s, not %s", show.Text(was.Path), show.Text(path))
		}
		return nil
	}); err != nil {
		return err
	}
	if was.SHA256 != l.SHA256 {
		s.note("%s: this release would write something else; it was never released", path)
	}
	return nil
}

// filesBelow takes all files below a folder that the entries state at this place, in the order of their names.
func (s *Session) filesBelow(dir string) (map[string][]byte, error) {
	files, last := map[string][]byte{}, ""
	for {
		data, err := s.next()
		if err != nil {
			return nil, s.fail(err)
		}
		h, err := headOf(data)
		if err != nil {
			return nil, s.fail(s.entryError(err))
		}
		if h.Kind != kindArtefact {
			return files, nil
		}
		var l artefactLeaf
		if err := decodeLeaf(data, &l, kindArtefact); err != nil {
			return nil, s.fail(s.entryError(err))
		}
		name := l.Path
		if s.how.marked() {
			name = strings.TrimSuffix(name, rehearsalSuffix)
		}
		rest, ok := strings.CutPrefix(name, dir)
		if !ok || rest <= last {
			return nil, s.fail(s.entryError(fmt.Errorf("(artefact) is about %s, which is not below %s, or not in order", show.Text(l.Path), dir)))
		}
		last = rest
		if err := s.artefact(name, nil, func(found []byte) error { files[rest] = found; return nil }); err != nil {
			return nil, err
		}
	}
}
