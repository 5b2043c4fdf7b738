package station

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
)

// logOf is a small issuance log: its checkpoints at each size, and proofs, by x/mod alone.
type logOf struct {
	t      *testing.T
	key    ed25519.PrivateKey
	hashes []tlog.Hash
	size   int64
}

const logName = "factory.example/issuance"

func (l *logOf) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, x := range at {
		out[i] = l.hashes[x]
	}
	return out, nil
}

func (l *logOf) add(entries ...string) {
	for _, e := range entries {
		l.hashes = append(l.hashes, must[[]tlog.Hash](l.t)(tlog.StoredHashes(l.size, []byte(e), l))...)
		l.size++
	}
}

func (l *logOf) answer(from int64) *factory.LogAnswer {
	s := must[note.Signer](l.t)(journal.NoteSigner(logName, l.key))
	root := must[tlog.Hash](l.t)(tlog.TreeHash(l.size, l))
	a := &factory.LogAnswer{From: from, Checkpoint: string(must[[]byte](l.t)(journal.SignCheckpoint(journal.FormatCheckpoint(logName, l.size, root), s)))}
	if from > 0 && from < l.size {
		a.Consistency = logbook.FormatHashes(must[tlog.TreeProof](l.t)(tlog.ProveTree(l.size, from, l)))
	}
	return a
}

func newLogOf(t *testing.T) *logOf {
	return &logOf{t: t, key: ed25519.NewKeyFromSeed(make([]byte, 32))}
}

// TestCheckpoints: what the station makes of the checkpoint that comes with an answer. A refusal writes nothing to the device.
func TestCheckpoints(t *testing.T) {
	good := newLogOf(t)
	good.add("a", "b", "c", "d", "e")
	fork := newLogOf(t)
	fork.add("a", "x", "c", "d", "e", "f")
	short := newLogOf(t)
	short.add("a", "b")
	for name, c := range map[string]struct {
		answer  *factory.LogAnswer
		demand  bool
		want    error
		kind    advice.Kind
		refused int
	}{
		"a later one":            {func() *factory.LogAnswer { g := newLogOf(t); g.add("a", "b", "c", "d", "e", "f"); return g.answer(5) }(), true, nil, 0, 0},
		"the same":               {good.answer(5), true, nil, 0, 0},
		"an old server":          {nil, false, nil, 0, 0},
		"an old server, demand":  {nil, true, nil, advice.Refused, 0},
		"a log that is mended":   {&factory.LogAnswer{Words: "the log stands still"}, false, nil, 0, 0},
		"the same, with demand":  {&factory.LogAnswer{Words: "the log stands still"}, true, nil, advice.Refused, 0},
		"an older one":           {short.answer(5), false, logbook.ErrOlder, advice.Unverified, 1},
		"of another history":     {fork.answer(5), false, logbook.ErrFork, advice.Unverified, 1},
		"a proof that is no one": {&factory.LogAnswer{Checkpoint: good.answer(5).Checkpoint, Consistency: []string{"x"}}, false, nil, advice.Failed, 0},
		"of another key": {func() *factory.LogAnswer {
			g := newLogOf(t)
			g.key = ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", 32)))
			g.add("a")
			return g.answer(5)
		}(), false, journal.ErrSignature, advice.Unverified, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, "log-"+strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-"))
			honest := l.answer
			l.answer = func(r *csr.Request) factory.EnrollAnswer {
				a := honest(r)
				a.Log = c.answer
				return a
			}
			vkey := must[string](t)(journal.VerifierKey(logName, good.key.Public()))
			l.conf.Log = &LogConfig{Key: vkey, Kept: filepath.Join(l.dir, "log.checkpoint"), Demand: c.demand}
			if err := os.WriteFile(l.conf.Log.Kept, []byte(good.answer(0).Checkpoint), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := l.enroll(nil)
			if c.want == nil && c.kind == 0 && err != nil || c.want != nil && !errors.Is(err, c.want) || c.kind != 0 && advice.KindOf(err) != c.kind {
				t.Fatalf("%v, %d", err, advice.KindOf(err))
			}
			if err != nil {
				l.untouched()
			} else if _, gone := os.Lstat(l.conf.Import); gone != nil {
				t.Error(gone)
			}
			found, _ := filepath.Glob(l.conf.Log.Kept + ".refused-*")
			if len(found) != c.refused {
				t.Errorf("evidence: %v", found)
			}
		})
	}
}
