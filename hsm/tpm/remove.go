package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
)

// Persistent keys lie between these handles: the owner's range (TPM 2.0 Library, part 2, section 7.5), past what TCG's provisioning
// guidance reserves at its beginning.
const firstPersistent, lastPersistent tpm2.TPMHandle = 0x81020000, 0x8102ffff

// persistents are the persistent handles with a name.
func persistents(w *wire, name tpm2.TPM2BName) (same []tpm2.TPMHandle, all []tpm2.TPMHandle, err error) {
	if all, err = w.handles(0x81000000); err != nil {
		return nil, nil, err
	}
	for _, h := range all {
		if _, n, err := readName(w, h); err == nil && bytes.Equal(n.Buffer, name.Buffer) {
			same = append(same, h)
		}
	}
	return same, all, nil
}

// persist keeps a key in the TPM, and notes in its file where.
func (t *Token) persist(ctx context.Context, k *Key) error {
	at, err := use(ctx, k, func(w *wire, root, key object) (tpm2.TPMHandle, error) {
		same, all, err := persistents(w, key.name)
		if err != nil {
			return 0, err
		}
		if len(same) > 0 {
			return same[0], nil // an earlier run was cut short
		}
		for h := firstPersistent; h <= lastPersistent; h++ {
			if slices.Contains(all, h) {
				continue
			}
			return h, evict(w, root, key.handle, key.name, h)
		}
		return 0, errors.New("the TPM has no place left")
	})
	if errors.Is(err, tpm2.TPMRCNVSpace) {
		return advice.New(advice.Failed, "destroy keys that nobody needs, or use a store of files only", "the TPM has no place left for persistent keys: %w", err)
	}
	if err != nil {
		return err
	}
	f := *k.f
	f.handle = at
	f.seal(t.secret.Bytes())
	if err := durable.WriteFile(t.s.path(keysDir, f.id), f.encode(), 0o600); err != nil {
		return err
	}
	k.f = &f
	return nil
}

// evict makes a loaded object persistent, or removes a persistent one.
func evict(w *wire, root object, h tpm2.TPMHandle, name tpm2.TPM2BName, at tpm2.TPMHandle) error {
	_, err := tpm2.EvictControl{Auth: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle: &tpm2.NamedHandle{Handle: h, Name: name}, PersistentHandle: at}.Execute(w)
	return err
}

// Destroy removes the key that q names from the store and from the TPM, and proves its absence. Certificates stay. A copy of the
// key's file that somebody kept is still a key for this TPM and its PIN, until the TPM is cleared.
func (t *Token) Destroy(ctx context.Context, q hsm.Query) error {
	if q.Label == "" && len(q.ID) == 0 {
		return advice.New(advice.Usage, "name the key by label or id", "%s: destroy key %s", t.Info().Name(), q)
	}
	k, err := t.key(q)
	if err == nil {
		_, err = t.Remove(ctx, hsm.Query{Label: k.f.label, ID: k.f.id})
	}
	return t.fail(err, "destroy key %s", q)
}

// Remove destroys the key of this label and id, if it is there, and proves its absence. It says whether it was there. It is for
// keys that the caller made: both must be given. It does no harm to remove twice.
func (t *Token) Remove(ctx context.Context, q hsm.Query) (found bool, err error) {
	if q.Label == "" || len(q.ID) == 0 {
		return false, advice.New(advice.Usage, "give both", "%s: remove %s: what is removed is named by label and id", t.Info().Name(), q)
	}
	if err := t.usable(); err != nil {
		return false, t.fail(err, "remove key %s", q)
	}
	lock, err := t.s.lock()
	if err != nil {
		return false, t.fail(err, "remove key %s", q)
	}
	defer lock.Close()
	found, err = t.remove(ctx, q)
	return found, t.fail(err, "remove key %s", q)
}

func (t *Token) remove(ctx context.Context, q hsm.Query) (bool, error) {
	f, err := t.readKey(q.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if f.label != q.Label {
		return false, advice.New(advice.Refused, "find out who made it", "the key with id %x has the label %q", q.ID, f.label)
	}
	name, err := tpm2.ObjectName(f.public)
	if err != nil {
		return false, err
	}
	_, err = operate(ctx, t.c, func(w *wire) (none struct{}, err error) {
		root, err := t.root(w)
		if err != nil {
			return none, err
		}
		same, _, err := persistents(w, *name)
		if err != nil {
			return none, err
		}
		for _, h := range same {
			if err := evict(w, root, h, *name, h); err != nil {
				return none, err
			}
		}
		if same, _, err = persistents(w, *name); err == nil && len(same) > 0 {
			err = fmt.Errorf("it is still in the TPM, at 0x%08x, after it was removed", uint32(same[0]))
		}
		return none, err
	})
	if err != nil {
		return true, err
	}
	path := t.s.path(keysDir, q.ID)
	if err := durable.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return true, errors.New("its file is still there after it was removed")
	}
	return true, nil
}
