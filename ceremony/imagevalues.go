package ceremony

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Published is what a release publishes of its image. Whoever can change it decides which machine is believed: it is held against the
// release's signed manifest, or made anew from its source.
type Published struct {
	Version string
	// Manifest is the SHA-256 of the list of all files in the image, and Files are those of the media, by name.
	Manifest string
	Files    map[string]string
	// PCRs are what a TPM's registers hold (bank SHA-256, in hexadecimal) after the image was started, by number.
	PCRs map[int]string
}

// firmwarePCR is the register of what firmware starts, to which some firmware adds events of its own. All others that are published must hold; but they say
// something only where this one holds, too: whatever is started in the place of the image, or before it, is in this register before it runs, and can write into
// the others what the image would, for that is published.
const firmwarePCR = 4

// ErrImage: the machine says of itself, or its TPM measured, something else than the release published.
var ErrImage = errors.New("CHANGED IMAGE")

// HoldTo compares what the machine said, wherever in the ceremony it did, with what the release published. The lines say what was found; an
// error of kind advice.Unverified names what differs, and wraps ErrImage where it is another image.
func (r *Report) HoldTo(p Published) ([]string, error) {
	if len(r.Platforms) < r.saidAt {
		return nil, advice.New(advice.Unverified, "it was held on a machine that was not started from an image, or with a program older than format 1.3",
			"the transcript does not say which image it was held on: the machine said nothing of itself at %d of %d beginnings", r.saidAt-len(r.Platforms), r.saidAt)
	}
	var found []string
	for i := range r.Platforms {
		line, err := p.hold(&r.Platforms[i])
		if err != nil {
			return found, advice.New(advice.Unverified, "take the machine for one that somebody changed, until you know why; and compare the published values with the release's signed manifest",
				"at %s: %w", show.Text(r.Platforms[i].When), err)
		}
		found = append(found, fmt.Sprintf("at %s: %s", r.Platforms[i].When, line))
	}
	return found, nil
}

func (p Published) hold(is *PlatformReport) (string, error) {
	i := is.Image
	if i == nil {
		return "", fmt.Errorf("%w: the machine was not started from an image", ErrImage)
	}
	if i.Version != p.Version || i.Manifest != p.Manifest {
		return "", fmt.Errorf("%w: the machine says image %s, manifest %s; published is %s, manifest %s", ErrImage, show.Text(i.Version), show.Text(i.Manifest), show.Text(p.Version), show.Text(p.Manifest))
	}
	medium := "; the medium was not read"
	if i.Medium != "" {
		name := p.fileOf(i.Medium)
		if name == "" {
			return "", fmt.Errorf("%w: the medium had the SHA-256 %s, which is that of no published file", ErrImage, show.Text(i.Medium))
		}
		medium = "; the medium was " + show.Text(name)
	}
	if is.Measured == nil {
		return ownWord(p.Version, fmt.Sprintf("no TPM measured it (%s)", show.Line(is.Unmeasured)), medium), nil
	}
	if what := is.shellTakenBack(); what != "" {
		return "", fmt.Errorf("%w: %s", ErrImage, what)
	}
	differ, firmware := p.differ(is.Measured)
	if len(differ) > 0 {
		return "", fmt.Errorf("%w: the TPM measured something else than image %s: %s", ErrImage, show.Text(p.Version), show.Line(strings.Join(differ, "; ")))
	}
	if firmware != "" {
		return ownWord(p.Version, fmt.Sprintf("%s, so that something else was started, too, which can have written into the other registers what is published. Some makers' firmware starts something of its own: "+
			"then register 4 is the same at each start from a medium that was compared. The TPM's attestation key is %s", firmware, is.Key), medium), nil
	}
	return fmt.Sprintf("image %s, as the TPM with the attestation key %s measured it%s", show.Text(p.Version), is.Key, medium), nil
}

// ownWord says that nothing but the machine itself says which image it was started from, and why.
func ownWord(version, why, medium string) string {
	return fmt.Sprintf("image %s as published, which is the machine's own word: %s%s", show.Text(version), why, medium)
}

// fileOf is the published file with a digest; empty if there is none.
func (p Published) fileOf(digest string) string {
	for _, name := range sortedKeys(p.Files) {
		if p.Files[name] == digest {
			return name
		}
	}
	return ""
}

// differ names the published registers that hold something else, and apart from them the one to which firmware may add; also where nothing is published of that.
func (p Published) differ(is *Measured) (list []string, firmware string) {
	for _, n := range slices.Sorted(maps.Keys(p.PCRs)) {
		if n == firmwarePCR || n >= 0 && n < len(is.PCRs) && is.PCRs[n] == p.PCRs[n] {
			continue
		}
		value := "not in the transcript"
		if n >= 0 && n < len(is.PCRs) {
			value = is.PCRs[n]
		}
		list = append(list, fmt.Sprintf("register %d is %s, published is %s", n, value, show.Text(p.PCRs[n])))
	}
	if want := p.PCRs[firmwarePCR]; is.PCRs[firmwarePCR] != want {
		firmware = fmt.Sprintf("register %d is %s, published is %s", firmwarePCR, is.PCRs[firmwarePCR], show.Text(cmp.Or(want, "none")))
	}
	return list, firmware
}
