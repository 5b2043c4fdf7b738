package release

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/quorum"
)

// Type is the first key of a manifest, PayloadType the type of the envelope in which a ceremony signs it.
const (
	Type        = "hanaper-release/1"
	PayloadType = "application/vnd.hanaper.release+json"
)

// The bounds of a manifest.
const (
	// MaxSize bounds a manifest in bytes.
	MaxSize = 256 << 10
	// MaxPrograms and MaxFiles bound what it lists, maxFile the bytes of one file.
	MaxPrograms = 64
	MaxFiles    = 1000
	maxFile     = 8 << 30
)

// The files of a release's folder that its manifest does not list: itself, the digests of all, and the ceremony that signed it.
const (
	ManifestFile = "manifest.json"
	SumsFile     = "SHA256SUMS"
	CeremonyDir  = "ceremony"
	// imageDir has the ceremony image, as make image writes it, and sbomDir what each program is made of.
	imageDir = "image"
	sbomDir  = "sbom"
	// ImagePackages begins the paths of the Debian packages that the image is made of.
	ImagePackages = imageDir + "/packages/"
)

// Program is the program whose digest officers' approvals name.
const Program = "hanaper"

// Manifest is what is released: of which source, how it was built, and every file.
type Manifest struct {
	Type string `json:"type"`
	// Version is a semantic version with a v before it.
	Version string `json:"version"`
	// Commit of the source, 40 hexadecimal digits; Date is that of the commit, UTC, whole seconds.
	Commit string `json:"commit"`
	Date   string `json:"date"`
	// Platform is that of the programs, as Go names it: linux/amd64.
	Platform string `json:"platform"`
	// Go is the toolchain, and CC the C compiler, as it calls itself.
	Go string `json:"go"`
	CC string `json:"cc"`
	// Programs are the SHA-256 of the installed programs, by name.
	Programs map[string]string `json:"programs"`
	// Files are all files of the release's folder, by their path in it.
	Files map[string]File `json:"files"`
}

// File is a file of the release: its SHA-256, and its size in bytes.
type File struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

var (
	commitForm   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	versionForm  = regexp.MustCompile(`^v[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}(-[0-9A-Za-z.-]{1,40})?$`)
	platformForm = regexp.MustCompile(`^[a-z0-9]{1,20}/[a-z0-9]{1,20}$`)
	programForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)
	goForm       = regexp.MustCompile(`^go1\.[0-9]{1,4}(\.[0-9]{1,4})?(rc[0-9]{1,4}|beta[0-9]{1,4})?$`)
	ccForm       = regexp.MustCompile(`^[!-~]([ -~]{0,78}[!-~])?$`)
	// likeDigest is what could pass for a part of a digest, where people compare digests.
	likeDigest = regexp.MustCompile(`[0-9A-Fa-f]{16}`)
	pathForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*(/[A-Za-z0-9][A-Za-z0-9._+~-]*){0,3}$`)
)

// Parse reads a manifest in its one spelling, and checks it. name stands for it in errors. A manifest is plain ASCII.
func Parse(name string, data []byte) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, malformed(name, "it is larger than %d bytes", MaxSize)
	}
	var head struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(data, &head) == nil && head.Type != Type && strings.HasPrefix(head.Type, "hanaper-release/") {
		return nil, malformed(name, "it is of type %.40q, of a newer release of Hanaper; this program reads %s", head.Type, Type)
	}
	m := &Manifest{}
	if err := strict.JSON(name, data, m); err != nil {
		return nil, err
	}
	if err := m.check(name); err != nil {
		return nil, err
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, malformed(name, "it is not in its one spelling")
	}
	return m, nil
}

// Encode checks the manifest and writes it in its one spelling.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(ManifestFile); err != nil {
		return nil, err
	}
	data, err := m.encode()
	if err == nil && len(data) > MaxSize {
		err = malformed(ManifestFile, "it is larger than %d bytes", MaxSize)
	}
	return data, err
}

func (m *Manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

func malformed(name, format string, args ...any) error {
	return advice.New(advice.Usage, "take the manifest.json of a release as make release wrote it; docs/spec/release.md says what it holds", "%s: %w", name, fmt.Errorf(format, args...))
}

func (m *Manifest) check(name string) error {
	refuse := func(format string, args ...any) error { return malformed(name, format, args...) }
	switch {
	case m.Type != Type:
		return refuse("type is %.40q, want %s", m.Type, Type)
	case !isVersion(m.Version):
		return refuse("version %.60q is none of the form v1.2.3 or v1.2.3-rc.1", m.Version)
	case !commitForm.MatchString(m.Commit):
		return refuse("commit %.60q is not 40 digits of lower-case hex", m.Commit)
	case !platformForm.MatchString(m.Platform):
		return refuse("platform %.60q is none such as linux/amd64", m.Platform)
	case !goForm.MatchString(m.Go):
		return refuse("go %.60q is none such as go1.26.8", m.Go)
	case !ccForm.MatchString(m.CC) || strings.ContainsAny(m.CC, "|:") || likeDigest.MatchString(m.CC):
		return refuse("cc %.60q: want 1 to 80 printable ASCII characters in one line, none of them '|' or ':', and no 16 or more hexadecimal digits in a row", m.CC)
	case len(m.Programs) > MaxPrograms || len(m.Files) > MaxFiles:
		return refuse("it lists more than %d programs or %d files", MaxPrograms, MaxFiles)
	case m.Programs[Program] == "":
		return refuse("the program %s is missing", Program)
	}
	for _, text := range slices.Concat([]string{m.Version}, slices.Collect(maps.Keys(m.Programs)), slices.Collect(maps.Keys(m.Files))) {
		if likeDigest.MatchString(text) {
			return refuse("%.60q has 16 or more hexadecimal digits in a row, as a digest has: people would compare it", text)
		}
	}
	if t, err := time.Parse(time.RFC3339, m.Date); err != nil || t.UTC().Format("2006-01-02T15:04:05Z") != m.Date || t.Year() < 2000 {
		return refuse("date %.40q is no moment in whole seconds of UTC", m.Date)
	}
	for _, p := range slices.Sorted(maps.Keys(m.Programs)) {
		if !programForm.MatchString(p) || !isDigest(m.Programs[p]) {
			return refuse("program %.60q: want a name of a-z, 0-9 and '-', and a SHA-256 in 64 digits of lower-case hex", p)
		}
		if _, ok := m.Files[sbomDir+"/"+p+".cdx.json"]; !ok {
			return refuse("the file %s/%s.cdx.json, which says what the program is made of, is missing", sbomDir, show.Text(p))
		}
	}
	return m.checkFiles(refuse)
}

func (m *Manifest) checkFiles(refuse func(string, ...any) error) error {
	// A folder on a stick may be of a file system that does not tell upper from lower case.
	folded := map[string]string{ManifestFile: "the manifest itself", strings.ToLower(SumsFile): "the list of digests", CeremonyDir: "the ceremony's folder"}
	for _, p := range slices.Sorted(maps.Keys(m.Files)) {
		f, low := m.Files[p], strings.ToLower(p)
		switch {
		case len(p) > 200 || !pathForm.MatchString(p) || strings.HasSuffix(p, "."):
			return refuse("file %.60q: want a path of letters, digits and . _ + ~ - inside of the folder", p)
		case strings.HasPrefix(low, CeremonyDir+"/"):
			return refuse("file %.60q lies in the ceremony's folder", p)
		case folded[low] != "":
			return refuse("file %.60q has the name of %s, in upper or lower case", p, folded[low])
		case !isDigest(f.SHA256) || f.Size < 1 || f.Size > maxFile:
			return refuse("file %.60q: want a SHA-256 in 64 digits of lower-case hex, and a size from 1 byte to 8 GiB", p)
		}
		folded[low] = "another file"
	}
	for low := range folded {
		for at := range low {
			if low[at] == '/' && folded[low[:at]] != "" {
				return refuse("file %.60q lies below another file", low)
			}
		}
	}
	if want := fmt.Sprintf("%s-%s-%s.tar.gz", Program, m.Version, strings.ReplaceAll(m.Platform, "/", "-")); m.Files[want].Size == 0 {
		return refuse("the file %s, with the programs, is missing", want)
	}
	for p := range m.Files {
		if strings.HasPrefix(p, imageDir+"/") && m.Files[imageDir+"/"+"image.json"].Size == 0 {
			return refuse("file %.60q is of a ceremony image, and %s/image.json is missing", p, imageDir)
		}
	}
	return nil
}

// isVersion says whether v is a semantic version with a v before it, in full, and without what says only how it was built: of two versions that
// differ in that, none is the newer one.
func isVersion(v string) bool {
	return versionForm.MatchString(v) && semver.IsValid(v) && semver.Canonical(v) == v
}

// ParseVersion reads a version as manifests have it; with or without the v before it.
func ParseVersion(text string) (string, error) {
	v := text
	if !strings.HasPrefix(v, "v") {
		v = "v" + v
	}
	if !isVersion(v) {
		return "", advice.New(advice.Usage, "write it as v1.2.3", "%.60q is no version of a release", text)
	}
	return v, nil
}

// Older says whether version a comes before version b by the order of semantic versions: v1.2.3-rc.1 before v1.2.3.
func Older(a, b string) bool { return semver.Compare(a, b) < 0 }

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && hex.EncodeToString(b) == s
}

// Sums is what SHA256SUMS of the release holds: the digest of every file, the manifest's own bytes in data included.
func (m *Manifest) Sums(data []byte) []byte {
	all := map[string]string{ManifestFile: quorum.Sum(data).String()}
	for p, f := range m.Files {
		all[p] = f.SHA256
	}
	var b bytes.Buffer
	for _, p := range slices.Sorted(maps.Keys(all)) {
		b.WriteString(all[p] + "  " + p + "\n")
	}
	return b.Bytes()
}

// ImageFiles are the files that machines start from, where a release has a ceremony image: people compare their digests with paper.
func ImageFiles() []string { return []string{imageDir + "/hanaper.iso", imageDir + "/hanaper.efi"} }

// Paths are the files, in order.
func (m *Manifest) Paths() []string { return slices.Sorted(maps.Keys(m.Files)) }

// ProgramNames are the programs, in order.
func (m *Manifest) ProgramNames() []string { return slices.Sorted(maps.Keys(m.Programs)) }

// OnPlatform gives the digest that approvals name for the program hanaper, where the release is for the platform goos/goarch.
func (m *Manifest) OnPlatform(goos, goarch string) (string, error) {
	if want := goos + "/" + goarch; m.Platform != want {
		return "", advice.New(advice.Refused, "take the release for "+want, "release %s is for %s, and names no program for %s", show.Text(m.Version), show.Text(m.Platform), want)
	}
	return m.Programs[Program], nil
}
