package ceremony

import (
	"slices"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/release"
)

// release signs the manifest of a release with the key that signed the last one, or was made for it, and makes one where there is none.
func (d *draft) release() error {
	if d.n.Manifest == nil {
		return advice.New(advice.Usage, "give manifest.json of the release with --manifest", "which release?")
	}
	m, err := release.Parse(show.Text(d.n.Manifest.File), d.n.Manifest.Data)
	if err != nil {
		return advice.Wrap(advice.Usage, err, "give manifest.json as `make release` wrote it")
	}
	key, err := d.releaseKey()
	if err != nil {
		return err
	}
	// A step that has the name of another version is refused, and a version can be signed twice: so no number is counted up.
	name := m.Version
	if nameForm.MatchString(name) && !d.used[name] {
		d.claim(name)
	} else {
		name = d.name("release")
	}
	d.step("sign-release", &SignRelease{Name: name, Key: key, Manifest: d.pin(NamedFile{Name: "manifest", File: d.n.Manifest.File, Data: d.n.Manifest.Data})},
		"Release "+m.Version+" of commit "+m.Commit+". Compare what the form says of it with the paper of somebody who built it from the same commit.")
	return nil
}

// releaseKey takes up the key of the last step that signs a release, of an aborted ceremony too.
func (d *draft) releaseKey() (string, error) {
	if d.s == nil {
		token := d.begun("Releases")
		d.key("release-key", token, "Hanaper Releases", hsm.P256)
		return "release-key", nil
	}
	for _, v := range slices.Backward(d.s.last.chain()) {
		for _, st := range slices.Backward(v.script.steps) {
			r, ok := st.step.(*SignRelease)
			if !ok {
				continue
			}
			if k := d.keyOf(r.Key); k != nil && k.live(d.s) != nil {
				return d.importKey(k)
			}
		}
	}
	return "", advice.New(advice.Refused, "restore it first (restore), or write a generate-key step by hand (docs/spec/script.md); an environment for releases begins with 'hanaper ceremony new release' and no DIR",
		"no key that signed a release is in a token here")
}
