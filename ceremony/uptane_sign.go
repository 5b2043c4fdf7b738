package ceremony

import (
	"crypto"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// uptaneFile is a metadata file that a step signs.
type uptaneFile struct {
	path     string
	document uptane.Document
	parse    func(data []byte) (uptane.Document, error)
	// same says whether a file of the folder says what document says.
	same func(found, want uptane.Document) bool
}

// uptaneSign signs, but for specimens that imported keys would have signed, and gives the file. Of a finished ceremony it
// is taken from the folder.
func (s *Session) uptaneSign(f uptaneFile, signers []crypto.Signer) ([]byte, error) {
	if s.finished() {
		return s.uptaneConfirm(f, signers)
	}
	if s.how.lacks(signers...) {
		for _, k := range signers {
			s.willSign(k.(*key), 1)
		}
		return f.document.Bytes(), nil
	}
	data, err := uptane.Sign(f.document, signers...)
	if s.aborted() {
		ok, err := s.rebuilt(f.path, err)
		if err == nil && !ok {
			data = f.document.Bytes()
		}
		return data, err
	}
	return data, err
}

func (s *Session) uptaneConfirm(f uptaneFile, signers []crypto.Signer) ([]byte, error) {
	data, err := s.fromFolder(f.path)
	if err != nil {
		return nil, err
	}
	found, err := f.parse(data)
	if err != nil {
		return nil, s.notAsAsked(f.path, err)
	}
	if found.Version() != f.document.Version() || !found.Expires().Equal(f.document.Expires()) || !f.same(found, f.document) {
		return nil, s.notAsAsked(f.path, errors.New("its version, expiry or content is another"))
	}
	if s.how.lacks(signers...) {
		return data, nil // a rehearsal's, which not everybody signed
	}
	list, err := s.signatures()
	if err != nil {
		return nil, err
	}
	var messages []message
	for _, signer := range signers {
		k := signer.(*key)
		id, err := uptane.NewKeyAsOf(s.format, k.public)
		if err != nil {
			return nil, s.notAsAsked(f.path, err)
		}
		at := slices.IndexFunc(found.Signatures(), func(g uptane.Signature) bool { return g.KeyID == id.ID() })
		if at < 0 {
			return nil, s.notAsAsked(f.path, errors.New("key "+show.Text(k.name)+" has not signed it"))
		}
		messages = append(messages, message{"the text by which a key is tried", k, []byte(uptane.TrialText), nil},
			message{f.path, k, found.Signed(), found.Signatures()[at].Sig})
	}
	if len(found.Signatures()) != len(signers) {
		return nil, s.notAsAsked(f.path, errors.New("it has other signatures besides"))
	}
	return data, s.match(list, messages)
}

func sameRoot(found, want uptane.Document) bool {
	a, aok := found.(*uptane.Root)
	b, bok := want.(*uptane.Root)
	if !aok || !bok {
		return false
	}
	facts := func(r *uptane.Root) map[uptane.Role][]string {
		roles := map[uptane.Role][]string{}
		for name, rk := range r.Config().Roles {
			var ids []string
			for _, k := range rk.Keys {
				ids = append(ids, k.ID())
			}
			slices.Sort(ids)
			roles[name] = append(ids, strconv.Itoa(rk.Threshold))
		}
		return roles
	}
	return maps.EqualFunc(facts(a), facts(b), slices.Equal)
}

// sameTargets: the ceremony signs an empty list.
func sameTargets(found, want uptane.Document) bool {
	a, aok := found.(*uptane.Targets)
	b, bok := want.(*uptane.Targets)
	return aok && bok && a.Empty() && b.Empty()
}
