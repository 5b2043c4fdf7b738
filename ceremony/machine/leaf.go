package machine

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/journal"
)

// format is the number of the format that this release writes, and the newest that it reads.
const format = 1

// The kinds of entries.
const (
	kindBegun    = "begun"
	kindPrepared = "prepared"
	kindWritten  = "written"
	kindDropped  = "dropped"
	kindCut      = "cut"
	kindEnded    = "ended"
)

// How a memory began, and how it ended.
const (
	// ByRun: the run began on this machine.
	ByRun = "run"
	// ByRoster: a folder was taken up here, and people gave the roster's digest for it.
	ByRoster = "roster"

	Finished = "finished"
	Aborted  = "aborted"
)

// Begun is the first entry: which run this is. Digests are SHA-256 in hexadecimal.
type Begun struct {
	Kind        string `json:"kind"`
	Format      int    `json:"format"`
	Nonce       string `json:"nonce"`
	Ceremony    string `json:"ceremony"`
	Environment string `json:"environment"`
	Script      string `json:"script_sha256"`
	Roster      string `json:"roster_sha256"`
	// Earlier is the checkpoint of the ceremony that it carries on from; empty without one.
	Earlier string `json:"earlier_sha256"`
	// Anchor is ByRun or ByRoster.
	Anchor string `json:"anchor"`
	// Size and Root are those of the transcript when the memory began: 0 entries where the run began here, more where its folder was taken up.
	Size int64  `json:"size"`
	Root string `json:"root"`
}

// mark is an entry about the transcript's size.
type mark struct {
	// Kind: prepared (an entry is about to be written, and the transcript will have this size and root), written (it is on
	// the disk), dropped (a crash came between; the transcript does not have it), or cut (the transcript is damaged after
	// these entries, and people agreed to abort the ceremony without the rest).
	Kind string `json:"kind"`
	Size int64  `json:"size"`
	Root string `json:"root"`
}

// Ended is the last entry.
type Ended struct {
	Kind string `json:"kind"`
	// How is Finished or Aborted.
	How string `json:"how"`
	// Checkpoint is the SHA-256 of the transcript's checkpoint.
	Checkpoint string `json:"checkpoint_sha256"`
}

var (
	nonceForm  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (b *Begun) check() error {
	b.Kind, b.Format = kindBegun, format
	for name, text := range map[string]string{"script": b.Script, "roster": b.Roster, "root": b.Root} {
		if !digestForm.MatchString(text) {
			return fmt.Errorf("machine: %.80q is no digest of the %s", text, show.Text(name))
		}
	}
	switch {
	case !nonceForm.MatchString(b.Nonce):
		return fmt.Errorf("machine: %.80q is no nonce", b.Nonce)
	case b.Ceremony == "" || b.Environment == "":
		return fmt.Errorf("machine: the run has no ceremony or environment")
	case b.Earlier != "" && !digestForm.MatchString(b.Earlier):
		return fmt.Errorf("machine: %.80q is no digest of a checkpoint", b.Earlier)
	case b.Anchor != ByRun && b.Anchor != ByRoster, b.Size < 0, b.Anchor == ByRun && (b.Size != 0 || b.Root != rootText(EmptyRoot)):
		return fmt.Errorf("machine: the run begins with %d entries by %q", b.Size, b.Anchor)
	}
	return nil
}

// EmptyRoot is the root of a transcript without entries.
var EmptyRoot = func() journal.Hash {
	r, err := journal.Parse([]byte("hanaper-journal/1 x\n"))
	if err != nil {
		panic("machine: an empty journal does not parse: " + err.Error())
	}
	return r.Root()
}()

func rootText(h journal.Hash) string { return hex.EncodeToString(h[:]) }

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("machine: plain data does not encode: " + err.Error())
	}
	return data
}

// kindOf reads which kind an entry is of.
func kindOf(data []byte) (kind string, format int, err error) {
	var head struct {
		Kind   string `json:"kind"`
		Format int    `json:"format"`
	}
	err = json.Unmarshal(data, &head)
	return head.Kind, head.Format, err
}

// decode reads data into v, and refuses what v would not encode to.
func decode(data []byte, v any) error {
	if err := strict.JSON("entry", data, v); err != nil {
		return err
	}
	if !same(encode(v), data) {
		return fmt.Errorf("is not in its one form")
	}
	return nil
}

func newer(path, what string) error {
	return advice.New(advice.Usage, "use the release that wrote it, or a newer one", "%s: %s: made by a newer release", show.Text(path), what)
}
