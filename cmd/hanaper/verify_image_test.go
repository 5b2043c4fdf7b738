package main

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/image/published"
)

// TestVerifyImage: verify holds what the machine said, and what its TPM measured, to the image.json of a release; another image is named, and
// exit code 4.
func TestVerifyImage(t *testing.T) {
	d := desk{t, t.TempDir()}
	sum := func(text string) published.File {
		return published.File{SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text))), Size: 1}
	}
	none := strings.Repeat("0", 64) // nothing was measured into these registers
	write := func(name string, change func(*published.Image)) string {
		p := published.Image{Format: published.Format, Version: "v2.0.0", Created: time.Unix(1, 0).UTC(), PCRs: map[string]string{"4": none, "11": none, "12": none, "13": none},
			Files: map[string]published.File{"hanaper.iso": sum("medium"), "hanaper.efi": sum("efi"), "manifest": sum("manifest")}}
		change(&p)
		data, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return d.write(name, string(data))
	}
	verify := func(image string) []string {
		return []string{"ceremony", "verify", "--roster", goldenRoster(t, "measured"), "--image", image, filepath.Join(goldenFolder, "measured")}
	}
	out := d.ok(verify(write("good.json", func(*published.Image) {}))...)
	for _, want := range []string{"machine, at resumed: a SHELL WAS OPENED", "image, at begin: image v2.0.0, as the TPM with the attestation key", "verified: script"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	// A medium in the place of the image's is in register 4, and can give the other registers the values of any image.
	out = d.ok(verify(write("swapped.json", func(p *published.Image) { p.PCRs["4"] = strings.Repeat("4", 64) }))...)
	for _, want := range []string{"which is the machine's own word: register 4 is " + none + ", published is 4444", "verified: script"} {
		if !strings.Contains(out, want) || strings.Contains(out, "measured it") {
			t.Errorf("no %q in %s", want, out)
		}
	}
	for want, change := range map[string]func(*published.Image){
		"register 11 is " + none:  func(p *published.Image) { p.PCRs["11"] = strings.Repeat("1", 64) },
		"register 12 is " + none:  func(p *published.Image) { p.PCRs["12"] = strings.Repeat("1", 64) },
		"the machine says image":  func(p *published.Image) { p.Files["manifest"] = sum("another manifest") },
		"is that of no published": func(p *published.Image) { p.Files["hanaper.iso"] = sum("another medium") },
	} {
		d.refused(4, want, "", verify(write("bad.json", change))...)
	}
	d.refused(2, "--image is for one ceremony", "", "ceremony", "verify", "--chain", "--image", "good.json", goldenFolder)
}
