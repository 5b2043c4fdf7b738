package ceremony

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// The files of a ceremony's folder, beside artefacts/, trust/ and uptane/.
const (
	scriptFile     = "script.yaml"
	rosterFile     = "roster.json"
	inputsDir      = "inputs"
	approvalsDir   = "approvals"
	earlierDir     = "earlier"
	manifestFile   = "manifest.json"
	transcriptFile = "transcript.log"
	checkpointFile = "checkpoint"
	signatureFile  = "transcript.dsse.json"
	// rehearsalSuffix ends the name of every artefact of a rehearsal, so that no program takes one for real.
	rehearsalSuffix = ".rehearsal"
	// unreadableFile are the bytes of a transcript whose end was damaged when its ceremony was aborted.
	unreadableFile = "transcript.unreadable"
	// attestationsDir holds signatures of officers who signed later. They are not in the manifest.
	attestationsDir = "attestations"
	// incompleteFile stands in a folder until its ceremony has ended.
	incompleteFile = "INCOMPLETE"
)

// rosterApproval is the place of an approval of the roster.
func rosterApproval(i int) string { return fmt.Sprintf("roster-approvals/%d.json", i+1) }

// outside are the files that the manifest does not list, for it is listed in them.
var outside = map[string]bool{manifestFile: true, transcriptFile: true, checkpointFile: true, signatureFile: true}

// manifest lists every file of the folder but those outside.
type manifest struct {
	Format int                 `json:"format"`
	Files  []manifestFileEntry `json:"files"`
}

type manifestFileEntry struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"`
}

// contents are the files that go into the manifest, by path.
func contents(s *Script, approvals [][]byte, st *state) map[string][]byte {
	files := map[string][]byte{scriptFile: s.raw, rosterFile: s.roster}
	for n, data := range s.inputs {
		files[path.Join(inputsDir, n)] = data
	}
	for i, a := range s.rosterApprovals {
		files[rosterApproval(i)] = a
	}
	for i, a := range approvals {
		files[fmt.Sprintf("%s/%d.json", approvalsDir, i+1)] = a
	}
	if s.earlier != nil {
		for n, data := range s.earlier.files {
			files[path.Join(earlierDir, n)] = data
		}
	}
	for n, data := range st.artefacts {
		files[n] = data
	}
	return files
}

func manifestOf(files map[string][]byte) manifest {
	m := manifest{Format: 1}
	for _, n := range sortedKeys(files) {
		m.Files = append(m.Files, manifestFileEntry{n, hexSHA256(files[n]), len(files[n])})
	}
	return m
}

func encodeManifest(files map[string][]byte) []byte {
	data, err := json.MarshalIndent(manifestOf(files), "", "  ")
	if err != nil {
		panic("ceremony: a manifest does not encode: " + err.Error())
	}
	return append(data, '\n')
}

func parseManifest(data []byte) (*manifest, error) {
	var m manifest
	if err := strict.JSON(manifestFile, data, &m); err != nil {
		return nil, err
	}
	if m.Format != 1 {
		return nil, fmt.Errorf("%s: format %d is unknown", manifestFile, m.Format)
	}
	if !sort.SliceIsSorted(m.Files, func(i, j int) bool { return m.Files[i].Path < m.Files[j].Path }) {
		return nil, fmt.Errorf("%s: files are not in order", manifestFile)
	}
	for i, f := range m.Files {
		if !fs.ValidPath(f.Path) || outside[f.Path] || f.Path == incompleteFile || i > 0 && f.Path == m.Files[i-1].Path {
			return nil, fmt.Errorf("%s: %q cannot be listed", manifestFile, f.Path)
		}
	}
	return &m, nil
}

// writeFile puts a file of the result into place: a file that is there already must be the same.
func writeFile(dir, name string, data []byte) error {
	full := filepath.Join(dir, filepath.FromSlash(name))
	if err := durable.Mkdir(filepath.Dir(full), 0o755); err != nil {
		return err
	}
	err := durable.Create(full, data, 0o644)
	if errors.Is(err, fs.ErrExist) {
		old, rerr := input.ReadFile(full)
		if rerr == nil && string(old) == string(data) {
			return nil
		}
		return refuse(RuleOutput, "%s exists already", show.Text(full))
	}
	return err
}

// checkOut refuses an output folder that is there and not empty, or cannot be made.
func checkOut(out string) error {
	entries, err := os.ReadDir(out)
	if err == nil && len(entries) > 0 {
		return advice.Wrap(advice.Refused, refuse(RuleOutput, "the output folder %s is not empty", out), "name a folder that does not exist with --out. A run that was cut short goes on with hanaper ceremony resume")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return refuse(RuleOutput, "the output folder: %w", err)
	}
	probe := out
	if errors.Is(err, fs.ErrNotExist) {
		probe = filepath.Dir(filepath.Clean(out))
		if _, err := os.Stat(probe); err != nil {
			return advice.Wrap(advice.Refused, refuse(RuleOutput, "the output folder %s: %w", out, err), "make the folder above it first, or correct the name: nothing else is made by the way")
		}
	}
	f, err := os.CreateTemp(probe, ".hanaper-*.tmp")
	if err != nil {
		return refuse(RuleOutput, "the output folder %s cannot be written: %w", out, err)
	}
	f.Close()
	return os.Remove(f.Name())
}
