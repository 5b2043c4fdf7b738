package machine

import (
	"encoding/hex"
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// Memory is what is remembered of a run. Its journal is locked until Close: one process at a time goes on with a run.
type Memory struct {
	log  *journal.Log
	path string

	begun Begun
	ended *Ended
	// size and root are those of the transcript as far as it is known to be on the disk.
	size int64
	root string
	// prepared is an entry of which it is not known whether a crash came before or after it; nil where there is none.
	prepared *mark
	// settled is the entry that says so, and is yet to be written.
	settled *mark
	// roots are those that the transcript had, by its size.
	roots map[int64]string
	// cut is true once people agreed to abort a transcript whose end is damaged: it can only be aborted.
	cut bool
}

// acted says whether the run may have acted: not before its first entry is on the disk.
func (m *Memory) acted() bool { return m.size > 0 }

// Cut says whether people agreed to abort a transcript whose end is damaged.
func (m *Memory) Cut() bool { return m.cut }

// Begun says which run this is.
func (m *Memory) Begun() Begun { return m.begun }

// Ended says how the run ended; nil while it has not.
func (m *Memory) Ended() *Ended { return m.ended }

// Close gives the memory free.
func (m *Memory) Close() {
	if m.log != nil {
		_ = m.log.Close()
	}
}

// load reads the entries of a memory.
func (m *Memory) load(origins string, leaves [][]byte) error {
	damaged := func(i int, format string, args ...any) error {
		return &journal.EntryError{Index: int64(i), What: fmt.Errorf(format, args...).Error()}
	}
	if len(leaves) == 0 {
		return advice.New(advice.Refused, "no token was touched: remove "+m.path+" and the ceremony's folder, and run anew", "%s: the run did not begin", show.Text(m.path))
	}
	for i, data := range leaves {
		kind, number, err := kindOf(data)
		if err != nil {
			return damaged(i, "is no JSON object: %w", err)
		}
		if (i == 0) != (kind == kindBegun) || m.ended != nil {
			return damaged(i, "(%.20q) is out of order", kind)
		}
		switch kind {
		case kindBegun:
			if number > format {
				return newer(m.path, fmt.Sprintf("format %d", number))
			}
			err = m.loadBegun(origins, data)
		case kindPrepared, kindWritten, kindDropped, kindCut:
			var l mark
			if err = decode(data, &l); err == nil {
				err = m.step(l)
			}
		case kindEnded:
			var l Ended
			if err = decode(data, &l); err == nil && (m.prepared != nil || l.How != Finished && l.How != Aborted || !digestForm.MatchString(l.Checkpoint)) {
				err = fmt.Errorf("does not say how the run ended")
			}
			m.ended = &l
		default:
			return newer(m.path, fmt.Sprintf("an entry %.20q", kind))
		}
		if err != nil {
			return damaged(i, "(%s): %w", show.Text(kind), err)
		}
	}
	return nil
}

func (m *Memory) loadBegun(origins string, data []byte) error {
	if err := decode(data, &m.begun); err != nil {
		return err
	}
	want := m.begun
	if err := want.check(); err != nil {
		return err
	}
	if want != m.begun || m.begun.Nonce != nonceOf(m.path) || origins != origin(m.begun.Nonce) {
		return fmt.Errorf("is about another run than the file's name says")
	}
	m.size, m.root, m.roots = m.begun.Size, m.begun.Root, map[int64]string{m.begun.Size: m.begun.Root}
	return nil
}

// step takes an entry about the transcript's size into account.
func (m *Memory) step(l mark) error {
	switch {
	case !digestForm.MatchString(l.Root):
		return fmt.Errorf("has no root")
	case l.Kind == kindPrepared && m.prepared == nil && l.Size == m.size+1:
		m.prepared = &l
		return nil
	case l.Kind == kindCut && l.Size <= m.size && m.roots[l.Size] == l.Root:
		m.size, m.root, m.prepared, m.cut = l.Size, l.Root, nil, true
		return nil
	case l.Kind == kindPrepared || m.prepared == nil || l.Size != m.prepared.Size || l.Root != m.prepared.Root:
		return fmt.Errorf("does not follow the entry before it")
	}
	if l.Kind == kindWritten {
		m.size, m.root, m.roots[l.Size] = l.Size, l.Root, l.Root
	}
	m.prepared = nil
	return nil
}

// append writes entries with one fsync.
func (m *Memory) append(entries ...any) error {
	var leaves [][]byte
	for _, e := range entries {
		leaves = append(leaves, encode(e))
	}
	if _, err := m.log.AppendAll(leaves); err != nil {
		return advice.New(advice.Failed, "nothing more was done. Make room, and go on with `hanaper ceremony resume`", "the state of this machine, %s: %w", show.Text(m.path), err)
	}
	for i, e := range entries {
		switch l := e.(type) {
		case *Begun:
			if err := m.loadBegun(m.log.Origin(), leaves[i]); err != nil {
				return err
			}
		case *mark:
			if err := m.step(*l); err != nil {
				return err
			}
		case *Ended:
			m.ended = l
		}
	}
	return nil
}

// Check refuses a transcript of another size or root than the one that this machine wrote last. Nothing is written.
func (m *Memory) Check(size int64, root journal.Hash) error {
	text, last := rootText(root), m.size
	switch p := m.prepared; {
	case p != nil && size == p.Size && text == p.Root:
		m.settled = &mark{kindWritten, p.Size, p.Root}
		return nil
	case p != nil && size == m.size && text == m.root:
		m.settled = &mark{kindDropped, p.Size, p.Root}
		return nil
	case p == nil && size == m.size && text == m.root:
		return nil
	}
	const hint = "this is not the folder that this machine wrote last: find that one. Do not go on with a copy"
	switch {
	case size < last:
		return advice.New(advice.Unverified, hint, "the transcript has %d entries, and this machine wrote %d: it was cut back, or the folder is an older copy", size, last)
	case size > last:
		return advice.New(advice.Unverified, hint, "the transcript has %d entries, and this machine wrote only %d: somebody added to it, or went on with it elsewhere", size, last)
	}
	return advice.New(advice.Unverified, hint, "the transcript's %d entries are not those that this machine wrote", size)
}

// Lost says how many entries are lost of a transcript that is damaged after its first size entries; an error says that
// these are not the ones that this machine wrote.
func (m *Memory) Lost(size int64, root journal.Hash) (int64, error) {
	if p := m.prepared; p != nil && p.Size == size && p.Root == rootText(root) {
		return 0, nil
	}
	if m.roots[size] != rootText(root) {
		return 0, advice.New(advice.Unverified, "this is not the folder that this machine wrote last: find that one. Do not go on with a copy",
			"the transcript's first %d entries are not those that this machine wrote", size)
	}
	last := m.size
	for n := range m.roots {
		last = max(last, n) // before the transcript was cut back
	}
	return last - size, nil
}

// CutBack remembers that people agreed to abort a transcript of which only the first entries can be read. Call Lost first.
func (m *Memory) CutBack(size int64, root journal.Hash) error {
	if m.cut && m.size == size && m.root == rootText(root) {
		return nil
	}
	m.settled = nil
	if p := m.prepared; p != nil && p.Size == size {
		return m.append(&mark{kindWritten, p.Size, p.Root}, &mark{kindCut, size, rootText(root)})
	}
	return m.append(&mark{kindCut, size, rootText(root)})
}

// Prepare remembers, on the disk, the size and root that the transcript is about to have. Call Check before the first.
func (m *Memory) Prepare(size int64, root journal.Hash) error {
	next := &mark{kindPrepared, size, rootText(root)}
	if m.settled == nil {
		return m.append(next)
	}
	settled := m.settled
	m.settled = nil
	return m.append(settled, next)
}

// Written remembers, on the disk, that the transcript has the entry that was prepared. Nothing may be done before that
// the entry speaks of: without it the transcript could be cut back by that entry unnoticed.
func (m *Memory) Written() error {
	if m.prepared == nil {
		return fmt.Errorf("machine: nothing was prepared")
	}
	return m.append(&mark{kindWritten, m.prepared.Size, m.prepared.Root})
}

// End remembers how the run ended. From then on it is not resumed or aborted again.
func (m *Memory) End(how string, checkpoint [32]byte) error {
	end := &Ended{kindEnded, how, hex.EncodeToString(checkpoint[:])}
	if m.ended != nil {
		if *m.ended == *end {
			return nil
		}
		return advice.New(advice.Refused, "", "this ceremony has ended, with the checkpoint %s", show.Text(m.ended.Checkpoint))
	}
	if m.settled != nil {
		settled := m.settled
		m.settled = nil
		return m.append(settled, end)
	}
	return m.append(end)
}
