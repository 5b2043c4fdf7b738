package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"path"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// strangers refuses files that a run which was cut short has not put into its folder. Somebody else did, and they would be
// in the way of the result, or part of it.
func (h *hold) strangers(files map[string][]byte, approvals [][]byte) error {
	own := contents(h.script, approvals, newState())
	known := map[string]bool{transcriptFile: true, incompleteFile: true}
	if leaves := h.record.Leaves(); ended(leaves) {
		known[manifestFile], known[checkpointFile], known[signatureFile] = true, true, true
		for _, e := range entriesOf(leaves) {
			if l, ok := e.leaf.(*artefactLeaf); ok {
				known[l.Path] = true
			}
		}
	}
	for _, name := range sortedKeys(files) {
		_, copied := own[name]
		if copied || known[name] || durable.Temporary(path.Base(name)) || name == unreadableFile {
			continue
		}
		return stranger(name, errors.New("no run has put it there"))
	}
	return h.keptEnd(files)
}

func stranger(name string, err error) error {
	return advice.New(advice.Unverified, "find out who put it there, and move it out of the folder", "%s is not of this ceremony: %w", show.Text(name), err)
}

// keptEnd takes up the damaged end of a transcript that an abort, which did not come to its own end, cut off and kept.
func (h *hold) keptEnd(files map[string][]byte) error {
	kept, ok := files[unreadableFile]
	switch {
	case !ok:
		return nil
	case h.damage != nil && bytes.Equal(kept, h.data):
		return nil
	case h.damage != nil || h.memory == nil || !h.memory.Cut():
		return stranger(unreadableFile, errors.New("the transcript was not cut back"))
	}
	whole, _, damage := journal.ParseCrashed(kept)
	if whole == nil || damage == nil || whole.Size() > h.record.Size() || !bytes.HasPrefix(h.record.Data(), whole.Data()) {
		return stranger(unreadableFile, fmt.Errorf("it is not what was cut off the transcript"))
	}
	h.kept, h.keptDamage, h.keptFrom = kept, damage, whole
	return nil
}
