package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/journal"
)

// replayLeaves performs a script along entries, as Verify does once it has found the journal and its signatures sound.
func replayLeaves(t *testing.T, files map[string][]byte, leaves [][]byte) error {
	t.Helper()
	script, err := loadCopy(files)
	if err != nil {
		t.Fatal(err)
	}
	v := &verified{files: files, script: script}
	if v.roster, err = script.openRoster(); err != nil {
		t.Fatal(err)
	}
	s := newSession(context.Background(), script, along(false, files), leaves)
	if err := v.first(s); err != nil {
		return err
	}
	return v.conclude(s)
}

// TestReplayLeaves changes one entry at a time in a journal that officers signed as it is: they, or one of them, wrote it with
// another program. Each change is refused for what it is.
func TestReplayLeaves(t *testing.T) {
	files, _ := finishedFolder(t)
	record, err := journal.Parse(files[transcriptFile])
	if err != nil {
		t.Fatal(err)
	}
	leaves := record.Leaves()
	if err := replayLeaves(t, files, leaves); err != nil {
		t.Fatal(err)
	}
	replace := func(pattern, with string) func([]byte) []byte {
		re := regexp.MustCompile(pattern)
		return func(leaf []byte) []byte { return re.ReplaceAll(leaf, []byte(with)) }
	}
	var firstKey []byte
	for _, c := range []struct {
		name, kind string
		// which of its kind, from 0; -1 is the last.
		which  int
		change func([]byte) []byte
		says   string
	}{
		{"another signature", kindSignature, 0, otherSignature, "none before it is by key"},
		{"another test signature", kindSignature, -1, otherSignature, "none before it is by key"},
		{"a date before the entry it follows", kindKey, 0, replace(`"at":"[^"]*"`, `"at":"2026-11-21T08:59:59Z"`), "before the entry it follows"},
		{"a date before the entry it follows, of what follows from the script", kindStep, 1, replace(`"at":"[^"]*"`, `"at":"2026-11-21T08:59:59Z"`), "before the entry it follows"},
		{"the mark of a rehearsal", kindKey, 0, replace(`("at":"[^"]*")`, `$1,"rehearsal":true`), "rehearsal"},
		{"another step", kindKey, 0, replace(`"step":\d+`, `"step":7`), "belongs to step 7"},
		{"another kind of step", kindStep, 0, replace(`"what":"`, `"what":"x`), "is not what the script"},
		{"another label", kindKeyIntent, 0, replace(`"label":"`, `"label":"x`), "is not what the script"},
		{"one key under two names", kindKey, 2, func(leaf []byte) []byte {
			leaf = regexp.MustCompile(`"spki":"[^"]*"`).ReplaceAll(leaf, regexp.MustCompile(`"spki":"[^"]*"`).Find(firstKey))
			return regexp.MustCompile(`"spki_sha256":"[^"]*"`).ReplaceAll(leaf, regexp.MustCompile(`"spki_sha256":"[^"]*"`).Find(firstKey))
		}, "the same key"},
		{"a key that contradicts its digest", kindKey, 0, replace(`"spki_sha256":"..`, `"spki_sha256":"zz`), "contradicts itself"},
		{"another token after the new login", kindFoundAgain, 0, replace(`"token_serial":"`, `"token_serial":"f`), "not about the key or the token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var of []int
			for i := range leaves {
				h, err := headOf(leaves[i])
				if err != nil {
					t.Fatal(err)
				}
				if h.Kind == c.kind {
					of = append(of, i)
				}
			}
			if len(of) < 2 {
				t.Fatalf("%d entries of kind %s", len(of), c.kind)
			}
			if c.kind == kindKey {
				firstKey = leaves[of[1]]
			}
			at := of[(c.which+len(of))%len(of)]
			changed := append([][]byte{}, leaves...)
			changed[at] = c.change(bytes.Clone(leaves[at]))
			if bytes.Equal(changed[at], leaves[at]) {
				t.Fatalf("entry %d was not changed: %s", at, leaves[at])
			}
			if err := replayLeaves(t, files, changed); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("entry %d: got %v, want %q", at, err, c.says)
			}
		})
	}
}

// TestReplayRestoredKey: a transcript in which the restored key is another than was backed up.
func TestReplayRestoredKey(t *testing.T) {
	_, _, c := custodyStage(t)
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(os.DirFS(result.Out))
	if err != nil {
		t.Fatal(err)
	}
	record, err := journal.Parse(files[transcriptFile])
	if err != nil {
		t.Fatal(err)
	}
	leaves := record.Leaves()
	if err := replayLeaves(t, files, leaves); err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, print, err := marshalSPKI(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(leaves); i++ {
		var l keyLeaf
		if h, err := headOf(leaves[i-1]); err != nil || h.Kind != kindRestoreIntent {
			continue
		}
		if err := json.Unmarshal(leaves[i], &l); err != nil {
			t.Fatal(err)
		}
		l.SPKI, l.Fingerprint = der, print
		changed := append([][]byte{}, leaves...)
		changed[i] = encodeLeaf(&l)
		if err := replayLeaves(t, files, changed); err == nil || !strings.Contains(err.Error(), "that was backed up") {
			t.Errorf("entry %d: %v", i, err)
		}
		return
	}
	t.Fatal("no key was restored")
}

// TestAnotherKeyInItsPlace: between a cut and the resumption somebody puts another key under the label and id of the one that the
// journal has. It signs nothing.
func TestAnotherKeyInItsPlace(t *testing.T) {
	const root = keysOnly + `  - root-certificate: {name: root, key: a, profile: fleet-root, subject: {common_name: A Root}, not_before: 2026-11-21T00:00:00Z, not_after: 2046-11-21T00:00:00Z}
`
	s := newStage(t)
	c := s.config(s.plan(root))
	var cut int64
	appending = func(n int64) error {
		if s.objects() == 2 && cut == 0 {
			cut = n + 2 // the second key's result, the end of its step, and then no more
		}
		if n == cut {
			return errCut
		}
		return nil
	}
	_, err := Run(context.Background(), c)
	appending = nil
	if !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if err = unfinished(&c); err != nil {
		t.Fatal(err)
	}
	token, err := s.open(context.Background(), "roots", hsm.URI{Token: s.boards["roots"].Label}, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.Keys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if a := k.Attributes(); a.Algorithm == hsm.P256 {
			if err := token.Destroy(context.Background(), hsm.Query{Label: a.Label, ID: a.ID}); err != nil {
				t.Fatal(err)
			}
			if _, err := token.Generate(context.Background(), hsm.GenerateSpec{Label: a.Label, ID: a.ID, Algorithm: hsm.P256}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	c.Asserted = asserted.Add(time.Minute)
	if _, err := Resume(context.Background(), c); err == nil || !strings.Contains(err.Error(), RuleOneKey.ID) || !strings.Contains(err.Error(), "not the key of the transcript") {
		t.Errorf("another key signs: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Out, "artefacts")); err == nil {
		t.Error("an artefact was written")
	}
}

// otherSignature changes a bit in the middle of an entry's signature, where it is still well formed.
func otherSignature(leaf []byte) []byte {
	var l signatureLeaf
	if err := json.Unmarshal(leaf, &l); err != nil {
		panic(err)
	}
	l.Signature[len(l.Signature)/2-4] ^= 1
	return encodeLeaf(&l)
}

// TestOtherSigners: once everything is recorded, only those whom the record names as present sign it.
func TestOtherSigners(t *testing.T) {
	s := newStage(t)
	result, err := Run(context.Background(), s.config(s.plan(keysOnly)))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(result.Entries)
	s = newStage(t)
	c := s.config(s.plan(keysOnly))
	func() {
		defer func() {
			appended = nil
			if recover() != errCut {
				t.Fatal("the run was not cut short after its last entry")
			}
		}()
		appended = func(n int64) {
			if n == size {
				panic(errCut)
			}
		}
		_, _ = Run(context.Background(), c)
	}()
	if err = unfinished(&c); err != nil {
		t.Fatal(err)
	}
	c.Asserted = asserted.Add(time.Minute)
	present := c.Officers
	before := everyFile(t, c.Out)
	for name, officers := range map[string][]crypto.Signer{"another": {s.officers[2]}, "one more": s.officers[:3], "another in the place of one": {present[0], s.officers[2]}} {
		c.Officers = officers
		if _, err := Resume(context.Background(), c); err == nil || !strings.Contains(err.Error(), RuleQuorum.ID) {
			t.Errorf("%s: %v", name, err)
		}
		if !maps.Equal(everyFile(t, c.Out), before) {
			t.Errorf("%s: the folder was changed", name)
		}
	}
	c.Officers = present
	if _, err := Resume(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(c.Out); err != nil {
		t.Fatal(err)
	}
}

// everyFile is the content of each file in a folder.
func everyFile(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var data []byte
			data, err = fs.ReadFile(os.DirFS(dir), name)
			files[name] = string(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestPSSSaltOfASignature: a signature of a transcript has a salt as long as its hash, as its intent says.
func TestPSSSaltOfASignature(t *testing.T) {
	pair, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("to be signed")
	digest := sha256.Sum256(message)
	k := &key{name: "root", public: &pair.PublicKey}
	in, err := signIntent(k, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	for salt, want := range map[int]bool{32: true, 0: false, 20: false, 31: false, 64: false} {
		length := salt
		if salt == 0 {
			length = rsa.PSSSaltLengthAuto
		}
		sig, err := rsa.SignPSS(rand.Reader, pair, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: length, Hash: crypto.SHA256})
		if err != nil {
			t.Fatal(err)
		}
		if got := (&recordedSignature{in: in, sig: sig, key: k}).over(message); got != want {
			t.Errorf("salt %d: %v", salt, got)
		}
	}
}
