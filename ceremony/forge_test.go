package ceremony

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// forger is a thief with one officer's name and public key, and two keys of their own: a roster of theirs has an officer who
// is really present, and the quorum is the thief's.
type forger struct {
	s      *stage
	keys   []crypto.Signer
	roster *quorum.Roster
}

func newForger(s *stage) *forger {
	s.t.Helper()
	f := &forger{s: s}
	config := quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: s.roster.Issued(), Officers: s.roster.Officers()[:2:2]}
	for _, name := range []string{"Mallory", "Trent"} {
		_, key, _ := ed25519.GenerateKey(rand.Reader)
		f.keys = append(f.keys, key)
		config.Officers = append(config.Officers, quorum.Officer{Name: name, Role: quorum.RoleOfficer, SigningKey: key.Public(), Scheme: quorum.Ed25519})
	}
	var err error
	if f.roster, err = quorum.NewRoster(config); err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (f *forger) approve(script *Script) [][]byte {
	f.s.t.Helper()
	honest := f.s.officers
	f.s.officers = f.keys
	defer func() { f.s.officers = honest }()
	return f.s.approvals(script, 2)
}

// folder makes a finished folder one of the forger's: the same ceremony, under the forger's roster. What the keys signed
// stays, for what they signed names no roster.
func (f *forger) folder(files map[string][]byte) map[string][]byte {
	f.s.t.Helper()
	fatal := func(err error) {
		if err != nil {
			f.s.t.Helper()
			f.s.t.Fatal(err)
		}
	}
	forged := maps.Clone(files)
	forged[rosterFile] = f.roster.Data()
	forged[scriptFile] = []byte(strings.Replace(string(files[scriptFile]), hexSHA256(files[rosterFile]), hexSHA256(f.roster.Data()), 1))
	script, err := loadCopy(forged)
	fatal(err)
	record, err := journal.Parse(files[transcriptFile])
	fatal(err)
	leaves := record.Leaves()
	var begin beginLeaf
	fatal(decodeLeaf(leaves[0], &begin, kindBegin))
	now := f.s.now
	f.s.now, err = parseTime(begin.Asserted)
	fatal(err)
	approvals := f.approve(script)
	f.s.now = now
	asserted, err := parseTime(begin.Asserted)
	fatal(err)
	want, err := firstLeaf(script, f.roster, approvals, nil, begin.Tool, asserted, false)
	fatal(err)
	want.Head, want.Answers = begin.Head, begin.Answers
	for _, o := range f.roster.Officers()[2:] {
		want.Officers = append(want.Officers, officerRecord{o.Name, string(o.Role), o.KeyID})
	}
	for n := range forged {
		if strings.HasPrefix(n, approvalsDir+"/") {
			delete(forged, n)
		}
	}
	for n, data := range contents(script, approvals, newState()) {
		forged[n] = data
	}
	listed := maps.Clone(forged)
	for n := range outside {
		delete(listed, n)
	}
	forged[manifestFile] = encodeManifest(listed)
	var end endLeaf
	fatal(decodeLeaf(leaves[len(leaves)-1], &end, kindEnd))
	end.Manifest = hexSHA256(forged[manifestFile])
	all := append([][]byte{encodeLeaf(&want)}, leaves[1:len(leaves)-1]...)
	forged[transcriptFile] = journalOf(f.s.t, record.Origin(), append(all, encodeLeaf(&end)))
	forged[checkpointFile] = sealedBody(f.s.t, forged[transcriptFile])
	forged[signatureFile], err = quorum.SignDSSE(quorum.TranscriptPayload, forged[checkpointFile], f.keys...)
	fatal(err)
	return forged
}

// journalOf is a whole journal of these leaves.
func journalOf(t testing.TB, origin string, leaves [][]byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	l, err := journal.Create(path, origin)
	if err == nil && len(leaves) > 0 {
		_, err = l.AppendAll(leaves)
	}
	if err == nil {
		err = l.Close()
	}
	data, rerr := os.ReadFile(path)
	if err != nil || rerr != nil {
		t.Fatal(err, rerr)
	}
	return data
}

func sealedBody(t testing.TB, data []byte) []byte {
	t.Helper()
	r, err := journal.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return r.Checkpoint()
}

const foreignScript = `version: 1
ceremony: second
environment: demo
window: {from: 2027-11-01T00:00:00Z, until: 2027-11-02T00:00:00Z}
roster: {{file "forged-roster.json"}}
earlier: {folder: forged-out, checkpoint: {{checkpoint "forged-out"}}}
tokens:
  roots: {uri: "{{token "roots"}}"}
inputs:
  foreign-csr: {{file "foreign.csr"}}
steps:
  - import-artefact: {key: fleet-root-key, token: roots}
  - import-artefact: {certificate: fleet-root}
  - certificate: {name: foreign-ca, issuer: fleet-root, profile: factory-ca, request: foreign-csr, not_before: 2027-11-01T00:00:00Z, not_after: 2041-11-21T00:00:00Z}
`

// takeover makes, from the public folder of a genuine ceremony, the folder of one that was cut short and would have the
// genuine root certify the forger's CA.
func (f *forger) takeover(first map[string][]byte) map[string][]byte {
	f.s.t.Helper()
	f.s.put("forged-roster.json", f.roster.Data())
	f.s.request("foreign.csr", factory2)
	put(f.s.t, filepath.Join(f.s.dir, "forged-out"), f.folder(first))
	p := f.s.plan(foreignScript)
	files := contents(p.script, f.approve(p.script), newState())
	files[incompleteFile] = []byte("x\n")
	return files
}

// put writes a folder.
func put(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for n, data := range files {
		name := filepath.Join(dir, n)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil {
			err = os.WriteFile(name, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tree reads every file below a folder; none where it does not exist.
func tree(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = data
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return files
}

// TestForgery: what the forger makes is consistent in itself, so that the attacks are not refused for a slip of theirs.
func TestForgery(t *testing.T) {
	files, _ := finishedFolder(t)
	s := newStage(t)
	s.roster, _ = quorum.ParseRoster(files[rosterFile])
	f := newForger(s)
	digest := f.roster.Digest()
	if _, err := Verify(context.Background(), memory(f.folder(files)), Anchors{Roster: &digest}); err != nil {
		t.Fatal(err)
	}
}
