package ceremony

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/release"
)

// SignRelease signs the manifest of a release of Hanaper, as a DSSE envelope. What a key of this purpose has signed is a release, and nothing else.
type SignRelease struct {
	Name string `yaml:"name"`
	Key  string `yaml:"key"`
	// Manifest is the input that holds manifest.json, as make release wrote it.
	Manifest string `yaml:"manifest"`
}

// purposeRelease is the purpose of a key that signs releases.
const purposeRelease = "releases of Hanaper"

// ReleaseRecord is a release that a ceremony signed.
type ReleaseRecord struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Commit  string `json:"commit"`
	SHA256  string `json:"manifest_sha256"`
	// Key is the name of the key in the script, Fingerprint the SHA-256 of its public half.
	Key         string `json:"key"`
	Fingerprint string `json:"spki_sha256"`
	// Manifest is what was signed, byte for byte.
	Manifest []byte `json:"-"`
}

func (r *SignRelease) people() people { return byProgram }

func (r *SignRelease) needs(*Plan) []need { return nil }

func (r *SignRelease) left(o *leftover, own []entry) { o.numbered(own) }

// used counts the version as given to this manifest.
func (r *SignRelease) used(s *Session) {
	if m, data, err := r.manifest(s); err == nil && s.state.releases[m.Version] == "" {
		s.state.releases[m.Version] = hexSHA256(data)
	}
}

func (r *SignRelease) describe(s *Session) string {
	what := "a release"
	if m, _, err := r.manifest(s); err == nil {
		what = fmt.Sprintf("release %s for %s, commit %s", m.Version, m.Platform, m.Commit)
	}
	return fmt.Sprintf("sign the manifest in input %q, of %s, by key %q", r.Manifest, what, r.Key)
}

func (r *SignRelease) manifest(s *Session) (*release.Manifest, []byte, error) {
	data, err := s.input(r.Manifest)
	if err != nil {
		return nil, nil, err
	}
	m, err := release.Parse(fmt.Sprintf("input %q", r.Manifest), data)
	if err != nil {
		return nil, nil, malformed("%w", err)
	}
	return m, data, nil
}

func (r *SignRelease) perform(s *Session) error {
	if err := s.claim(r.Name); err != nil {
		return err
	}
	m, data, err := r.manifest(s)
	if err != nil {
		return err
	}
	if v, err := release.ParseVersion(r.Name); err == nil && v != m.Version {
		return malformed("the step is called %s, and the manifest in input %q is of release %s: call the step so, or pin the other manifest", show.Text(r.Name), r.Manifest, show.Text(m.Version))
	}
	k, err := s.keyFor(r.Key, purposeRelease)
	if err != nil {
		return err
	}
	if _, err := quorum.DefaultScheme(k.public); err != nil {
		return refuse(RuleAlgorithm, "key %q: %w", r.Key, err)
	}
	if at, err := time.Parse(time.RFC3339, m.Date); err != nil || at.After(s.script.until) {
		return refuse(RuleDate, "release %s is of %s, after the ceremony's window", show.Text(m.Version), show.Text(m.Date))
	}
	sum := hexSHA256(data)
	if was := s.state.releases[m.Version]; was != "" && was != sum {
		return refuse(RuleRelease, "version %s was given before, to the manifest with SHA-256 %s, and this one has %s: a version that was signed, or may have been, stays what it was", show.Text(m.Version), was, sum)
	}
	for _, v := range sortedKeys(s.state.releases) {
		if release.Older(m.Version, v) {
			s.warn("release %s is older than %s, which was signed before", show.Text(m.Version), show.Text(v))
		}
	}
	if err := r.sign(s, k, data); err != nil {
		return err
	}
	s.state.releases[m.Version] = sum
	s.state.signed = append(s.state.signed, ReleaseRecord{r.Name, m.Version, m.Commit, sum, r.Key, hexSHA256(k.spki), bytes.Clone(data)})
	return nil
}

// sign has the manifest signed, or takes the envelope from the folder of a finished ceremony.
func (r *SignRelease) sign(s *Session, k *key, data []byte) error {
	path := "artefacts/" + r.Name + ".dsse.json"
	if s.how.lacks(k) {
		s.willSign(k, 1)
		return s.artefact(path, nil, nil)
	}
	if s.finished() {
		return s.artefact(path, nil, func(env []byte) error { return r.confirm(s, k, data, env) })
	}
	env, err := quorum.SignDSSE(release.PayloadType, data, k)
	if s.aborted() {
		if _, err := s.rebuilt("release "+r.Name, err); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return s.artefact(path, env, nil)
}

// confirm holds a finished envelope to the manifest, the key and the recorded signature.
func (r *SignRelease) confirm(s *Session, k *key, data, env []byte) error {
	payload, err := quorum.VerifyDSSEKey(env, release.PayloadType, k.public)
	if err != nil {
		return err
	}
	if !bytes.Equal(payload, data) {
		return errors.New("it signs another manifest")
	}
	text, sig, err := quorum.SignedDSSE(env, release.PayloadType)
	if err != nil {
		return err
	}
	list, err := s.signatures()
	if err != nil {
		return err
	}
	return s.match(list, []message{{"release " + r.Name, k, text, sig}})
}

// shows says in full what is signed: people compare it with what somebody made from the same commit.
func (r *SignRelease) shows(s *Session, v *shown) {
	m, data, err := r.manifest(s)
	if err != nil {
		return
	}
	aloud := func(what, sum string) {
		v.fact(what+", SHA-256", sum)
		if raw, err := hex.DecodeString(sum); err == nil {
			v.fact(what+", in words", quorum.Words(raw))
		}
	}
	v.fact("release", m.Version+" for "+m.Platform)
	v.fact("source", "commit "+m.Commit+", of "+m.Date)
	aloud("manifest", hexSHA256(data))
	aloud("program "+release.Program, m.Programs[release.Program])
	for _, p := range m.ProgramNames() {
		if p != release.Program {
			v.fact("program "+p+", SHA-256", m.Programs[p])
		}
	}
	for _, f := range release.ImageFiles() {
		if m.Files[f].Size > 0 {
			aloud(f, m.Files[f].SHA256)
		}
	}
	// Debian's packages for the image are many, and would push off the screen what is compared.
	packages := 0
	paths := slices.DeleteFunc(m.Paths(), func(p string) bool {
		if !strings.HasPrefix(p, release.ImagePackages) {
			return false
		}
		packages++
		return true
	})
	if packages > 0 {
		paths = append(paths, fmt.Sprintf("%d in %s", packages, release.ImagePackages))
	}
	v.fact(fmt.Sprintf("files (%d)", len(m.Files)), show.Line(strings.Join(paths, ", ")))
	// Free text, which no form may take for a value that people compare.
	v.fact("made with, as the builder says", fmt.Sprintf("%q, %q", m.Go, m.CC))
	if k := s.state.keys[r.Key]; k != nil {
		v.box("key that signs, SHA-256 of its public half"+ends, hexSHA256(k.spki))
	}
}
