// Package published reads and writes image.json, in which a release says of its ceremony image what anybody can hold an image,
// and a machine that started it, against.
//
// Nothing in the file is signed: the release's manifest is, and has the file's SHA-256. An attacker who can change the file
// chooses which image is taken for the release's, so a reader says where it has the file from, and people compare the digest of
// the image with paper.
package published

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Format is the number of the file's format.
const Format = 1

// MaxSize bounds the file, in bytes.
const MaxSize = 64 << 10

// Image is what is published of one image.
type Image struct {
	Format  int    `json:"format"`
	Version string `json:"version"`
	// Created is SOURCE_DATE_EPOCH: the time of the source, not of the build.
	Created time.Time `json:"created"`
	// Files are by name: hanaper.iso, hanaper.efi and manifest among them.
	Files map[string]File `json:"files"`
	// PCRs are what a TPM's PCRs of the SHA-256 bank hold after the unified image was started, by number, in hexadecimal.
	// PCRs 11 to 13 depend on the image alone. PCR 4 is what firmware makes of it that started the image itself, and nothing before it.
	PCRs map[string]string `json:"pcrs"`
	// Packages are the Debian packages in the image, "name version SHA-256", in the order of their names.
	Packages []string `json:"packages"`
	// Tools are the compilers, by name, as they call themselves.
	Tools map[string]string `json:"tools"`
}

// File is a file of the release.
type File struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Read reads the file at path.
func Read(path string) (Image, error) {
	data, err := input.Read(path, MaxSize)
	if err != nil {
		return Image{}, advice.Wrap(advice.Usage, err, "name the image.json of a release")
	}
	return Parse(path, data)
}

var version = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~-]{0,99}$`)

// Parse reads data; name stands for it in errors. What is not exactly in this format is refused.
func Parse(name string, data []byte) (Image, error) {
	var p Image
	refuse := func(format string, args ...any) (Image, error) {
		return Image{}, advice.New(advice.Usage, "take image.json from the release again", "%s: %s", show.Text(name), fmt.Sprintf(format, args...))
	}
	var head struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(data, &head) == nil && head.Format > Format {
		return refuse("it was made by a newer release of Hanaper (format %d)", head.Format)
	}
	if err := strict.JSON(name, data, &p); err != nil {
		return Image{}, err
	}
	switch {
	case p.Format != Format:
		return refuse("format %d, want %d", p.Format, Format)
	case !version.MatchString(p.Version):
		return refuse("version %.100q is none", p.Version)
	case p.Created.IsZero() || p.Created.Location() != time.UTC:
		return refuse("created: want a time in UTC")
	}
	for _, f := range slices.Sorted(maps.Keys(p.Files)) {
		if !isDigest(p.Files[f].SHA256) || p.Files[f].Size <= 0 {
			return refuse("file %.100q: want a SHA-256 in 64 lower-case hexadecimal digits, and a size", f)
		}
	}
	for _, f := range []string{"hanaper.iso", "hanaper.efi", "manifest"} {
		if _, ok := p.Files[f]; !ok {
			return refuse("file %s is missing", f)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(p.PCRs)) {
		if i, err := strconv.Atoi(n); err != nil || i < 0 || i > 23 || strconv.Itoa(i) != n || !isDigest(p.PCRs[n]) {
			return refuse("PCR %.20q: want a number from 0 to 23, and 64 lower-case hexadecimal digits", n)
		}
	}
	for _, n := range []string{"11", "12", "13"} {
		if p.PCRs[n] == "" {
			return refuse("PCR %s is missing", n)
		}
	}
	return p, nil
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && hex.EncodeToString(b) == s
}

// Marshal is the file: the same image gives the same bytes.
func (p Image) Marshal() ([]byte, error) {
	data, err := json.MarshalIndent(p, "", "  ")
	return append(data, '\n'), err
}
