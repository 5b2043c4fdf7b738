package ceremony

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
)

// finished performs testdata/full.yaml once for all tests that only read its folder.
var finished = sync.OnceValues(func() (map[string][]byte, [32]byte) {
	t := finishedFor
	s := newStage(t)
	result, err := Run(context.Background(), s.config(s.plan(s.full())))
	if err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(os.DirFS(result.Out))
	if err != nil {
		t.Fatal(err)
	}
	return files, s.roster.Digest()
})

var finishedFor testing.TB

func finishedFolder(t testing.TB) (map[string][]byte, [32]byte) {
	t.Helper()
	finishedFor = t
	return finished()
}

// TestTamper: single-byte changes of every kind of file are refused, and the file named: in each file the first byte, the last and some
// in between, and 2,000 drawn at random; with HANAPER_SOAK=1 every byte of the transcript and 20,000 drawn.
func TestTamper(t *testing.T) {
	files, anchor := finishedFolder(t)
	t.Parallel()
	if _, err := Verify(context.Background(), memory(files), Anchors{Roster: &anchor}); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	change := func(name string, at int) {
		t.Helper()
		changed := maps.Clone(files)
		changed[name] = bytes.Clone(files[name])
		changed[name][at] ^= byte(1 + rng.IntN(255))
		_, err := Verify(context.Background(), memory(changed), Anchors{Roster: &anchor})
		if err == nil {
			t.Fatalf("%s: a change of byte %d was not noticed", name, at)
		}
		if !strings.Contains(err.Error(), name) || advice.KindOf(err) != advice.Unverified {
			t.Fatalf("%s: a change of byte %d is blamed on: %v", name, at, err)
		}
	}
	names := sortedKeys(files)
	var total int
	for _, n := range names {
		last := len(files[n]) - 1
		for i := range 9 {
			change(n, last*i/8)
		}
		total += len(files[n])
	}
	draws := 2000
	if os.Getenv("HANAPER_SOAK") != "" {
		draws = 20_000
		for at := range files[transcriptFile] {
			change(transcriptFile, at)
		}
	}
	for range draws {
		// Half of the changes fall anywhere, half on a file drawn first, so that small files have their share.
		name := names[rng.IntN(len(names))]
		if at := rng.IntN(total); rng.IntN(2) == 0 {
			for _, n := range names {
				if at < len(files[n]) {
					name = n
					break
				}
				at -= len(files[n])
			}
		}
		change(name, rng.IntN(len(files[name])))
	}
}

func TestTamperFiles(t *testing.T) {
	files, anchor := finishedFolder(t)
	for _, n := range sortedKeys(files) {
		changed := maps.Clone(files)
		delete(changed, n)
		if _, err := Verify(context.Background(), memory(changed), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), n) {
			t.Errorf("without %s: %v", n, err)
		}
	}
	for _, n := range []string{"extra", "artefacts/extra.pem", incompleteFile} {
		changed := maps.Clone(files)
		changed[n] = []byte("x")
		if _, err := Verify(context.Background(), memory(changed), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), n) {
			t.Errorf("with %s: %v", n, err)
		}
	}
}

// TestReplayEntries drops, doubles and swaps entries and rebuilds a journal that is sound in itself: the replay, not the
// hash, must notice. The first two entries of each kind and every 11th are tried, and all with HANAPER_SOAK=1.
func TestReplayEntries(t *testing.T) {
	files, _ := finishedFolder(t)
	record, err := journal.Parse(files[transcriptFile])
	if err != nil {
		t.Fatal(err)
	}
	leaves := record.Leaves()
	script, err := loadCopy(files)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, list [][]byte) {
		t.Helper()
		v := &verified{files: files, script: script}
		if v.roster, err = script.openRoster(); err != nil {
			t.Fatal(err)
		}
		s := newSession(context.Background(), script, along(false, files), list)
		if err := v.first(s); err != nil {
			return
		}
		if err := s.whole(); err != nil {
			if !strings.Contains(err.Error(), "entry") {
				t.Errorf("%s: no entry is named: %v", what, err)
			}
			return
		}
		if err := v.end(s); err != nil || len(s.pending) > 0 {
			return
		}
		t.Errorf("%s was not noticed", what)
	}
	t.Parallel()
	kinds := map[string]int{}
	for i := range leaves {
		h, err := headOf(leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		if kinds[h.Kind]++; kinds[h.Kind] > 2 && i%11 != 0 && os.Getenv("HANAPER_SOAK") == "" {
			continue
		}
		without := append(append([][]byte{}, leaves[:i]...), leaves[i+1:]...)
		if len(without) > 0 {
			try("dropping an entry", without)
		}
		doubled := append(append([][]byte{}, leaves[:i+1]...), leaves[i:]...)
		try("doubling an entry", doubled)
		if i+1 < len(leaves) {
			swapped := append([][]byte{}, leaves...)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			try("swapping entries", swapped)
		}
	}
}
