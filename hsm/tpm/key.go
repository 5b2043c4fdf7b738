package tpm

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// Key is a private key in a TPM. It implements hsm.Key.
type Key struct {
	t *Token
	f *keyFile

	mu    sync.Mutex
	saved *tpm2.TPMSContext
}

var _ hsm.Key = (*Key)(nil)

// Public is the key's public half: *ecdsa.PublicKey or *rsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.f.key }

// Attributes are those of the key's public area, which the TPM holds itself to.
func (k *Key) Attributes() hsm.Attributes { return k.f.attributes() }

// Token describes the token that holds the key.
func (k *Key) Token() hsm.TokenInfo { return k.t.Info() }

// URI names the key by the store's label, the TPM, the key's label and id.
func (k *Key) URI() hsm.URI {
	u := k.t.uri()
	u.Object, u.ID, u.Type = k.f.label, bytes.Clone(k.f.id), "private"
	return u
}

// URI names the token and says where it is on this machine.
func (t *Token) URI() hsm.URI { return t.uri() }

// uri names the token and says where it is on this machine.
func (t *Token) uri() hsm.URI {
	u := t.Info().URI()
	u.Store = t.s.dir
	if t.c.path != DefaultDevice {
		u.Device = t.c.path
	}
	return u
}

func (k *Key) name() string { return "key " + hsm.Query{Label: k.f.label, ID: k.f.id}.String() }

// use runs f with the key loaded, and the storage root key beside it.
func use[T any](ctx context.Context, k *Key, f func(w *wire, root, key object) (T, error)) (T, error) {
	if err := k.t.usable(); err != nil {
		var none T
		return none, err
	}
	return operate(ctx, k.t.c, func(w *wire) (T, error) {
		var none T
		root, err := k.t.root(w)
		if err != nil {
			return none, err
		}
		o, err := k.load(w, root)
		if err != nil {
			return none, err
		}
		v, err := f(w, root, o)
		if err != nil {
			return none, k.t.policyFailed(w, err, k.t.s.PCRs)
		}
		return v, nil
	})
}

// load loads the key: from its place in the TPM, from its saved context, or from its file.
func (k *Key) load(w *wire, root object) (object, error) {
	name, err := tpm2.ObjectName(k.f.public)
	if err != nil {
		return object{}, err
	}
	if k.f.handle != 0 {
		_, found, err := readName(w, k.f.handle)
		if err == nil && bytes.Equal(found.Buffer, name.Buffer) {
			return object{k.f.handle, *name, k.f.public}, nil
		}
		// It was removed from its place: its file still serves.
	}
	k.mu.Lock()
	saved := k.saved
	k.mu.Unlock()
	if saved != nil {
		if answer, err := (tpm2.ContextLoad{Context: *saved}).Execute(w); err == nil {
			w.keep(answer.LoadedHandle)
			return object{answer.LoadedHandle, *name, k.f.public}, nil
		}
	}
	o, err := load(w, root, k.f.blob)
	if err != nil {
		return o, err
	}
	k.t.save(w, o.handle, func(c *tpm2.TPMSContext) {
		k.mu.Lock()
		k.saved = c
		k.mu.Unlock()
	})
	return o, nil
}

// entry is a key file, or why it is none.
type entry struct {
	id   []byte
	file *keyFile
	err  error
}

// entries reads the files of keys.
func (t *Token) entries() ([]entry, error) {
	ids, err := t.s.ids(keysDir)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, id := range ids {
		f, err := t.readKey(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		all = append(all, entry{id, f, err})
	}
	return all, nil
}

// readKey reads the file of a key and checks its code. What it answers beside an error is for lists only.
func (t *Token) readKey(id []byte) (*keyFile, error) {
	path := t.s.path(keysDir, id)
	data, err := input.Read(path, maxBlob)
	if err != nil {
		return nil, err
	}
	f, err := parseKeyFile(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", show.Text(path), err)
	case !bytes.Equal(f.id, id):
		return f, fmt.Errorf("%s is the file of another key", show.Text(path))
	case !t.public && !f.genuine(t.secret.Bytes()):
		return f, advice.New(advice.Refused, "find out who changed it, and restore it from your own copy", "%s is not as this store wrote it: its code is wrong", show.Text(path))
	}
	return f, nil
}

// readBlob reads an object of the store that is no key of people.
func (s *store) readBlob(name string) (*blob, error) {
	data, err := input.Read(filepath.Join(s.dir, name), maxBlob)
	if err != nil {
		return nil, err
	}
	b, err := parseBlob(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", show.Text(filepath.Join(s.dir, name)), err)
	}
	return b, nil
}

func matches(f *keyFile, q hsm.Query) bool {
	return (q.Label == "" || f.label == q.Label) && (len(q.ID) == 0 || bytes.Equal(f.id, q.ID))
}

// Key finds exactly one private key.
func (t *Token) Key(_ context.Context, q hsm.Query) (hsm.Key, error) {
	if q.Label == "" && len(q.ID) == 0 {
		return nil, advice.New(advice.Usage, "name the key by label or id", "%s: key %s", t.Info().Name(), q)
	}
	k, err := t.key(q)
	if err != nil {
		return nil, t.fail(err, "key %s", q)
	}
	return k, nil
}

func (t *Token) key(q hsm.Query) (*Key, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	all, err := t.entries()
	if err != nil {
		return nil, err
	}
	var found []*keyFile
	for _, e := range all {
		if e.err != nil && bytes.Equal(e.id, q.ID) {
			return nil, e.err
		}
		if e.file == nil || !matches(e.file, q) {
			continue
		}
		if e.err != nil {
			return nil, e.err
		}
		found = append(found, e.file)
	}
	switch len(found) {
	case 0:
		return nil, advice.New(advice.Failed, "`hanaper token show` lists the keys", "%w", hsm.ErrNoKey)
	case 1:
		return &Key{t: t, f: found[0]}, nil
	}
	return nil, advice.New(advice.Usage, "name it by label and id", "%d of them: %w", len(found), hsm.ErrAmbiguous)
}

// Keys lists the keys that can be used. KeyObjects lists the others too.
func (t *Token) Keys(ctx context.Context) ([]hsm.Key, error) {
	all, err := t.KeyObjects(ctx)
	if err != nil {
		return nil, err
	}
	var keys []hsm.Key
	for _, o := range all {
		if o.Key != nil {
			keys = append(keys, o.Key)
		}
	}
	return keys, nil
}

// KeyObject is a key of the store.
type KeyObject struct {
	Attributes hsm.Attributes
	// Key is nil for one that cannot be used here, and NotUsable then says why.
	Key       hsm.Key
	NotUsable string
}

// KeyObjects lists every file in the folder of keys, also those that cannot be used, with the reason.
func (t *Token) KeyObjects(context.Context) ([]KeyObject, error) {
	if t.isClosed() {
		return nil, t.fail(hsm.ErrClosed, "list keys")
	}
	entries, err := t.entries()
	if err != nil {
		return nil, t.fail(err, "list keys")
	}
	var all []KeyObject
	for _, e := range entries {
		o := KeyObject{Attributes: hsm.Attributes{ID: e.id}}
		if e.file != nil {
			o.Attributes = e.file.attributes()
		}
		if e.err != nil {
			o.NotUsable = e.err.Error()
		} else {
			o.Key = &Key{t: t, f: e.file}
		}
		all = append(all, o)
	}
	return all, nil
}

func (t *Token) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}
