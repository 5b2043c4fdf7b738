// Package machine is what a machine remembers of the ceremonies that were performed on it, in a folder of its own
// (--state). A ceremony's folder passes through many hands; this one stays. docs/spec/state.md is its format.
//
// The memory of a run is a journal, runs/NONCE.log, by the nonce of the run's approvals. It says what was begun, and
// before each entry of the transcript the size and root that the transcript is about to have, so that a folder which was
// cut back, lengthened, swapped or replayed is known for what it is. No file here is ever replaced.
//
// An attacker who can change this folder can have an older copy of a ceremony's folder resumed or aborted, or have used
// approvals used again: it is then worth as little as the ceremony's folder. So can one who deletes it have used approvals
// used again: people are told that this machine remembers nothing, and for all else they are asked for digests. One who can read it learns digests, names of ceremonies, and nothing secret.
package machine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// Store is the folder. Nothing is made before the first run begins.
type Store struct{ dir string }

// At is the store in this folder, which need not exist.
func At(dir string) Store { return Store{dir} }

// Dir is the store's folder.
func (s Store) Dir() string { return s.dir }

func (s Store) path(nonce string) string { return filepath.Join(s.dir, "runs", nonce+".log") }

// Used says whether approvals of this nonce were used here: a run under them wrote the first entry of its transcript, so
// that it may have acted.
func (s Store) Used(nonce string) (bool, error) {
	// nonces/ is of releases that remembered nothing else.
	if _, err := os.Lstat(filepath.Join(s.dir, "nonces", nonce)); err == nil {
		return true, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, s.failed(err)
	}
	path := s.path(nonce)
	m, err := s.read(path)
	if err != nil {
		return false, advice.New(advice.Unverified, "keep the file. If you hold the folder of a run under these approvals, end that one; else have the officers approve anew, with a new nonce (without --with for the first of them)",
			"nobody knows whether these approvals were used on this machine: %s cannot be read: %w", show.Text(path), err)
	}
	return m != nil && m.acted(), nil
}

// ErrUnknown means that nothing is remembered of a run.
var ErrUnknown = errors.New("this machine remembers nothing of this ceremony")

// Begin remembers a run that is about to begin, and uses its approvals up. Of the runs that carry on from one ceremony
// only one may have begun to act: two would give out the same numbers.
func (s Store) Begin(b Begun) (*Memory, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if err := durable.Mkdir(filepath.Join(s.dir, "runs"), 0o700); err != nil {
		return nil, s.failed(err)
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if used, err := s.Used(b.Nonce); err != nil {
		return nil, err
	} else if used {
		return nil, advice.New(advice.Refused, "have the officers approve anew, with a new nonce (without --with for the first of them)", "these approvals were used on this machine before")
	}
	if err := s.follow(b); err != nil {
		return nil, err
	}
	if err := s.withdraw(b.Nonce); err != nil {
		return nil, err
	}
	l, err := journal.Create(s.path(b.Nonce), origin(b.Nonce))
	if err != nil {
		return nil, s.failed(err)
	}
	m := &Memory{log: l, path: s.path(b.Nonce)}
	if err := m.append(&b); err != nil {
		m.Close()
		return nil, errors.Join(err, durable.Remove(m.path))
	}
	return m, nil
}

// withdraw removes the memory of a run that never acted, if there is one and no process is about to go on with it.
func (s Store) withdraw(nonce string) error {
	l, err := journal.Open(s.path(nonce))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.failed(err)
	}
	defer l.Close()
	return s.failed(durable.Remove(s.path(nonce)))
}

func (s Store) lock() (io.Closer, error) {
	l, err := durable.Lock(filepath.Join(s.dir, "lock"))
	if errors.Is(err, durable.ErrLocked) {
		return nil, advice.Wrap(advice.Failed, err, "end the other hanaper first")
	}
	return l, s.failed(err)
}

// Recall opens what is remembered of a run, to add to it; an error that wraps ErrUnknown says that nothing is.
func (s Store) Recall(nonce string) (*Memory, error) {
	if !nonceForm.MatchString(nonce) {
		return nil, advice.New(advice.Unverified, "", "%.40q is no nonce", nonce)
	}
	path := s.path(nonce)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (state folder %s)", ErrUnknown, s.dir)
	}
	l, err := journal.Open(path)
	if err != nil {
		return nil, s.failed(fmt.Errorf("%s: %w", show.Text(path), err))
	}
	m := &Memory{log: l, path: path}
	var leaves [][]byte
	for i := range l.Size() {
		leaf, err := l.Leaf(i)
		if err != nil {
			m.Close()
			return nil, s.failed(err)
		}
		leaves = append(leaves, leaf)
	}
	if err := m.load(l.Origin(), leaves); err != nil {
		m.Close()
		return nil, s.failed(fmt.Errorf("%s: %w", show.Text(path), err))
	}
	return m, nil
}

// Wrote says whether this machine wrote the transcript of this origin whose checkpoint has this digest. A damaged file says
// of nothing that it was written here.
func (s Store) Wrote(origin string, checkpoint [32]byte) (bool, error) {
	all, _, err := s.all()
	if err != nil {
		return false, err
	}
	for _, m := range all {
		if root, err := hex.DecodeString(m.root); err == nil && sha256.Sum256(journal.FormatCheckpoint(origin, m.size, journal.Hash(root))) == checkpoint {
			return true, nil
		}
	}
	return false, nil
}

// Empty says whether nothing is remembered here of any run.
func (s Store) Empty() (bool, error) {
	all, damaged, err := s.all()
	if err != nil || len(all)+len(damaged) > 0 {
		return false, err
	}
	old, err := os.ReadDir(filepath.Join(s.dir, "nonces"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return len(old) == 0, s.failed(err)
}

// CanFollow refuses a run that would be the second one to carry on from its earlier ceremony. Nothing is written.
func (s Store) CanFollow(b Begun) error { return s.follow(b) }

// MayGoOn refuses to go on with a run that did not act before a crash, where another one has carried on from its earlier ceremony since, or is about to. Who
// calls it has the memory open and keeps it so: no other run begins meanwhile.
func (s Store) MayGoOn(m *Memory) error {
	if m.acted() || m.begun.Earlier == "" {
		return nil
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := s.follow(m.begun); err != nil {
		return advice.Wrap(advice.KindOf(err), err, "it did nothing to a token: remove its folder. "+advice.Hint(err))
	}
	return nil
}

func (s Store) follow(b Begun) error {
	if b.Earlier == "" {
		return nil
	}
	all, damaged, err := s.all()
	if err != nil {
		return err
	}
	for _, d := range damaged {
		// One that began is taken as one that acted: nobody knows.
		if d.may(func(o Begun) bool { return o.Nonce != b.Nonce && o.Earlier == b.Earlier }) {
			return advice.New(advice.Unverified, "keep the file. "+d.which()+". If that ceremony carried on from this checkpoint, carry on from that one; else move the file out of runs/, and try again",
				"%s: it may be what this machine remembers of a ceremony that carried on from checkpoint %s", d, show.Text(b.Earlier))
		}
	}
	for _, m := range all {
		if m.begun.Nonce == b.Nonce || m.begun.Earlier != b.Earlier {
			continue
		}
		if m.acted() {
			return advice.New(advice.Refused, "carry on from that one, finished or aborted; if its folder is lost and you are sure that it signed nothing, remove "+m.path,
				"on this machine ceremony %q carried on from checkpoint %s", m.begun.Ceremony, show.Text(b.Earlier))
		}
		// Its process may write the first entry at any moment.
		if live, err := durable.Locked(m.path); err != nil {
			return s.failed(err)
		} else if live {
			return advice.New(advice.Refused, "end the other hanaper, or carry on from what it does", "on this machine ceremony %q is beginning, from the same checkpoint %s", m.begun.Ceremony, show.Text(b.Earlier))
		}
	}
	name := filepath.Join(s.dir, "nonces", "followed-"+b.Earlier)
	was, err := input.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(was) == b.Script+"\n" {
		return nil
	}
	return advice.New(advice.Refused, "carry on from that one, finished or aborted; if it never touched a token, remove "+name,
		"on this machine a run of another script carried on from checkpoint %s", show.Text(b.Earlier))
}

// read reads a memory and changes nothing; nil stands for a run that was about to begin, or never was. Beside an error the
// memory says of what is damaged only what its first entry says, if that is whole.
func (s Store) read(path string) (*Memory, error) {
	data, err := input.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.failed(err)
	}
	r, _, damage := journal.ParseCrashed(data)
	if r == nil {
		return nil, damage
	}
	m := &Memory{path: path}
	if r.Size() > 0 {
		err = m.load(r.Origin(), r.Leaves())
	}
	switch {
	case damage != nil:
		return m, damage
	case r.Size() == 0:
		return nil, nil
	}
	return m, err
}

// asIfForgotten is what people do whose ceremony's memory is damaged.
const asIfForgotten = "keep the file. Name another, empty state folder with --state, and give the digests of roster and transcript from your paper with --roster and --transcript, as if this machine remembered nothing"

// failed names the folder in an error of the file system or of a damaged file.
func (s Store) failed(err error) error {
	if err == nil || advice.Hint(err) != "" && !errors.As(err, new(*journal.EntryError)) {
		return err
	}
	if damage := (*journal.EntryError)(nil); errors.As(err, &damage) {
		return advice.New(advice.Unverified, asIfForgotten, "what this machine remembers of this ceremony is damaged: %w", err)
	}
	return advice.New(advice.Failed, "name a folder that can be written, with --state", "the state folder %s: %w", s.dir, err)
}

func origin(nonce string) string { return "hanaper/state/" + nonce }

// nonceOf is the nonce of the file at path.
func nonceOf(path string) string { return strings.TrimSuffix(filepath.Base(path), ".log") }

func same(a, b []byte) bool { return bytes.Equal(a, b) }
