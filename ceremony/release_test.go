package ceremony

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/release"
)

// manifestOfRelease is the example of the format, as the manifest of a version.
func manifestOfRelease(t *testing.T, version string) []byte {
	t.Helper()
	text := strings.NewReplacer("v0.2.0", version, "2026-11-27T06:54:00Z", "2026-11-20T06:54:00Z").Replace(readFile(t, "../release/testdata/manifest-1.json"))
	if _, err := release.Parse("manifest", []byte(text)); err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

const (
	makesReleaseKey = "- generate-key: {name: release-key, token: roots, label: Hanaper Releases, algorithm: P-256}\n"
	signsRelease    = "- sign-release: {name: release-1, key: release-key, manifest: manifest}\n"
	takesReleaseKey = "- import-artefact: {key: release-key, token: roots}\n"
)

// holdRelease holds a first ceremony, which makes a key and signs a release with it.
func holdRelease(t *testing.T, algorithm string) *years {
	t.Helper()
	y := newYears(t)
	y.put("manifest.json", manifestOfRelease(t, "v0.2.0"))
	y.inputs["manifest"] = "manifest.json"
	y.hold(strings.Replace(makesReleaseKey, "P-256", algorithm, 1) + signsRelease)
	return y
}

// TestSignRelease: a key made in one ceremony signs releases in that one and in later ones; stock openssl verifies what it signed, form, screen
// and record say in full what it is, and the second reader agrees.
func TestSignRelease(t *testing.T) {
	for _, algorithm := range []string{"P-256", "Ed25519", "RSA-3072"} {
		y := holdRelease(t, algorithm)
		first := manifestOfRelease(t, "v0.2.0")
		second := manifestOfRelease(t, "v0.2.1")
		y.put("manifest.json", second)
		p := y.hold(takesReleaseKey + strings.Replace(signsRelease, "release-1", "release-2", 1))
		if p.Signatures["release-key"] != 1 {
			t.Errorf("%s: check counts %v", algorithm, p.Signatures)
		}
		m, err := release.Parse("manifest", second)
		if err != nil {
			t.Fatal(err)
		}
		words := quorum.Sum(second).Words()
		form := p.Paper(Tool{})
		holds(t, form, "v0.2.1 for linux/amd64", m.Commit, hexSHA256(second), m.Programs["hanaper"], m.Programs["hanaperd"], m.Files["image/hanaper.iso"].SHA256, m.CC, "sbom/hanaperd.cdx.json",
			strings.Join(strings.Fields(words)[:3], " "), "signed by")
		// What the builder says of itself is free text: it stands in quotes, after every digest that people compare.
		shown := p.shown[2]
		if last := shown.facts[len(shown.facts)-1]; last.Label != "made with, as the builder says" || last.Value != "\"go1.26.8\", \"gcc (Debian 12.2.0-14+deb12u1) 12.2.0\"" {
			t.Errorf("%s: %q", algorithm, shown.facts)
		}
		for n, want := range map[int][]byte{1: first, 2: second} {
			report, err := Verify(context.Background(), os.DirFS(y.folder(n)), Anchors{Roster: &y.anchor})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Releases) != 1 || !bytes.Equal(report.Releases[0].Manifest, want) || report.Releases[0].SHA256 != hexSHA256(want) || report.Format != Format() {
				t.Errorf("%s: %+v", algorithm, report.Releases)
			}
			code, said := readerSays(t, y.folder(n), "--roster", fmt.Sprintf("%x", y.anchor))
			if code != 0 || !strings.Contains(said, "manifest.json with SHA-256 "+hexSHA256(want)) {
				t.Errorf("%s: the reader: exit code %d: %s", algorithm, code, said)
			}
		}
		verifiedByOpenSSL(t, y, algorithm, second)
		status, err := ReadStatus(context.Background(), os.DirFS(y.folder(2)), "folder", Anchors{Roster: &y.anchor})
		if err != nil || len(status.Keys) != 1 || fmt.Sprint(status.Keys[0].For) != "["+purposeRelease+"]" {
			t.Errorf("%s: %v, %+v", algorithm, err, status)
		}
	}
}

// verifiedByOpenSSL has openssl verify the envelope of the second ceremony, over bytes that are put together here.
func verifiedByOpenSSL(t *testing.T, y *years, algorithm string, manifest []byte) {
	t.Helper()
	var env struct {
		PayloadType, Payload string
		Signatures           []struct{ KeyID, Sig string }
	}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(y.folder(2), "artefacts/release-2.dsse.json"))), &env); err != nil {
		t.Fatal(err)
	}
	if payload, err := base64.StdEncoding.DecodeString(env.Payload); err != nil || !bytes.Equal(payload, manifest) || env.PayloadType != "application/vnd.hanaper.release+json" || len(env.Signatures) != 1 {
		t.Fatalf("%+v, %v", env, err)
	}
	sig, err := base64.StdEncoding.DecodeString(env.Signatures[0].Sig)
	if err != nil {
		t.Fatal(err)
	}
	y.put("sig", sig)
	y.put("pae", fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(env.PayloadType), env.PayloadType, len(manifest), manifest))
	args := []string{"pkeyutl", "-verify", "-pubin", "-inkey", filepath.Join(y.folder(1), "artefacts/release-key.pub.pem"), "-rawin", "-sigfile", filepath.Join(y.dir, "sig"), "-in", filepath.Join(y.dir, "pae")}
	switch algorithm {
	case "P-256":
		args = append(args, "-digest", "sha256")
	case "RSA-3072":
		args = append(args, "-digest", "sha256", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:32")
	}
	judge(t, "openssl", args...)
}

// TestSignReleaseRefusals: what is no release, or has been given another manifest before, is refused before anybody is asked for anything; and the
// key that signs releases signs nothing else, nor does another key sign one.
func TestSignReleaseRefusals(t *testing.T) {
	y := holdRelease(t, "P-256")
	with := func(data []byte) { y.put("manifest.json", data) }
	step := takesReleaseKey + strings.Replace(signsRelease, "release-1", "release-2", 1)

	same := manifestOfRelease(t, "v0.2.0")
	with(bytes.Replace(same, []byte(`"go1.26.8"`), []byte(`"go1.26.9"`), 1))
	y.refused("another manifest of a version that was signed", step, "CER-036", "v0.2.0", hexSHA256(same))
	with(bytes.Replace(same, []byte(`2026-11-20T`), []byte(`2027-11-20T`), 1))
	y.refused("a release of the future", step, "CER-006")
	for name, data := range map[string][]byte{
		"an unknown key":   bytes.Replace(same, []byte(`"type"`), []byte(`"more": 1, "type"`), 1),
		"a key twice":      bytes.Replace(same, []byte(`"version"`), []byte(`"version": "v9.9.9", "version"`), 1),
		"another spelling": bytes.Replace(same, []byte(`"go": `), []byte(`"go":  `), 1),
		"an order":         []byte(readFile(t, "../factory/order/testdata/order-1.json")),
		"nothing":          nil,
		"too large":        bytes.Repeat([]byte(" "), release.MaxSize+1),
	} {
		with(data)
		y.refused(name, step, "CER-001")
	}
	with(manifestOfRelease(t, "v0.3.0"))
	y.refused("no such key", signsRelease, "CER-003", "release-key")
	y.refused("no such input", takesReleaseKey+"- sign-release: {name: release-2, key: release-key, manifest: other}\n", "CER-003", "other")
	y.refused("no key", takesReleaseKey+"- sign-release: {name: release-2, manifest: manifest}\n", "CER-001")
	y.refused("the name of another version", takesReleaseKey+"- sign-release: {name: v0.3.1, key: release-key, manifest: manifest}\n", "CER-001", "v0.3.1", "v0.3.0")
	y.refused("no name", takesReleaseKey+"- sign-release: {key: release-key, manifest: manifest}\n", "CER-001")
	y.refused("a name that is taken", takesReleaseKey+"- sign-release: {name: release-key, key: release-key, manifest: manifest}\n", "CER-002")
	y.refused("the release key for a root", takesReleaseKey+"- root-certificate: {name: root, key: release-key, profile: fleet-root, subject: {common_name: The Root}, not_before: FROM, not_after: 2046-11-21T00:00:00Z}\n", "CER-008", "releases")
	y.refused("the release key for a request", takesReleaseKey+"- csr: {name: request, key: release-key, subject: {common_name: X}}\n", "CER-008", "releases")
	y.refused("a root's key for a release", strings.TrimSpace(firstRoot)+"\n- sign-release: {name: release-2, key: root-key, manifest: manifest}\n", "CER-008", "releases")

	// The same manifest may be signed again, by a key that takes the place of the first; an older version is allowed, and said aloud.
	with(same)
	y.hold("- generate-key: {name: release-key-2, token: online, label: Hanaper Releases, algorithm: P-256}\n- sign-release: {name: release-2, key: release-key-2, manifest: manifest}\n")
	with(manifestOfRelease(t, "v0.1.9"))
	p, err := y.check(takesReleaseKey + "- sign-release: {name: release-3, key: release-key, manifest: manifest}\n")
	if err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "v0.1.9 is older than v0.2.0") {
		t.Errorf("%v, %+v", err, p)
	}
}

// TestAbortedRelease: an aborted ceremony releases nothing, though its transcript has the signature; its version stays with its manifest, and the
// same manifest can be signed in the next ceremony.
func TestAbortedRelease(t *testing.T) {
	y := newYears(t)
	y.put("manifest.json", manifestOfRelease(t, "v0.2.0"))
	y.inputs["manifest"] = "manifest.json"
	y.hold(makesReleaseKey)
	p, err := y.check(takesReleaseKey + signsRelease)
	if err != nil {
		t.Fatal(err)
	}
	c := y.config(p)
	cut := false
	appending = func(int64) error {
		if cut {
			return errCut
		}
		return nil
	}
	c.Stop = func(at Stop) (Answer, Exception, error) {
		cut = at.Done.Kind == "sign-release"
		return GoOn, Exception{}, nil
	}
	_, err = Run(context.Background(), c)
	appending = nil
	if !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	c.Stop = nil
	if err := unfinished(&c); err != nil {
		t.Fatal(err)
	}
	if _, err := Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "the power was cut", Agree: func(Aborting) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	report := y.ended()
	if len(report.Releases) != 0 || !report.Aborted || !strings.Contains(readFile(t, filepath.Join(y.folder(2), transcriptFile)), `"kind":"signature","step":2`) {
		t.Errorf("%+v", report)
	}
	if code, said := readerSays(t, y.folder(2), "--roster", fmt.Sprintf("%x", y.anchor)); code != 0 || !strings.Contains(said, "ABORTED") || strings.Contains(said, "signed a release") {
		t.Errorf("exit code %d: %s", code, said)
	}
	step := takesReleaseKey + strings.Replace(signsRelease, "release-1", "release-2", 1)
	y.put("manifest.json", bytes.Replace(manifestOfRelease(t, "v0.2.0"), []byte(`"go1.26.8"`), []byte(`"go1.26.9"`), 1))
	y.refused("another manifest of that version", step, "CER-036")
	y.put("manifest.json", manifestOfRelease(t, "v0.2.0"))
	y.hold(step)
}

// TestForgedRelease: an envelope that was changed, that another key signed, or that is of another type, is refused by both readers.
func TestForgedRelease(t *testing.T) {
	y := holdRelease(t, "P-256")
	files, err := readFolder(os.DirFS(y.folder(1)))
	if err != nil {
		t.Fatal(err)
	}
	const path = "artefacts/release-1.dsse.json"
	manifest := manifestOfRelease(t, "v0.2.0")
	other := bytes.Replace(manifest, []byte("f2ca1bb6"), []byte("f2ca1bb7"), 1)
	sign := func(kind string, data []byte) []byte {
		env, err := quorum.SignDSSE(kind, data, strangerKey)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	for name, env := range map[string][]byte{
		"another key":      sign(release.PayloadType, manifest),
		"another manifest": bytes.Replace(files[path], []byte(base64.StdEncoding.EncodeToString(manifest)), []byte(base64.StdEncoding.EncodeToString(other)), 1),
		"another type":     bytes.Replace(files[path], []byte("release+json"), []byte("order+json"), 1),
		"another spelling": append(bytes.Clone(files[path]), '\n'),
		"no envelope":      []byte("{}\n"),
	} {
		if bytes.Equal(env, files[path]) {
			t.Fatalf("%s: nothing is changed", name)
		}
		sum := sha256.Sum256(env)
		changed := forged(t, y.stage, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
			files[path] = env
			for i := range leaves {
				var l artefactLeaf
				if decodeLeaf(leaves[i], &l, kindArtefact) == nil && l.Path == path {
					l.SHA256, l.Size = fmt.Sprintf("%x", sum), len(env)
					leaves[i] = encodeLeaf(&l)
				}
			}
			return leaves
		})
		if _, err := Verify(context.Background(), memory(changed), Anchors{Roster: &y.anchor}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if code, said := readerSays(t, laid(t, changed), "--roster", fmt.Sprintf("%x", y.anchor)); code != 4 {
			t.Errorf("%s: the reader: exit code %d: %s", name, code, said)
		}
	}
	// The release key itself signs another manifest than the one that was read and shown: a program that lies, whose officers sign its transcript.
	tok, err := y.open(context.Background(), "roots", hsm.URI{Token: y.boards["roots"].Label, Serial: y.boards["roots"].Serial}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	live, err := tok.Key(context.Background(), hsm.Query{Label: "Hanaper Releases"})
	if err != nil {
		t.Fatal(err)
	}
	env, err := quorum.SignDSSE(release.PayloadType, other, live)
	if err != nil {
		t.Fatal(err)
	}
	text, sig, err := quorum.SignedDSSE(env, release.PayloadType)
	if err != nil {
		t.Fatal(err)
	}
	lied := forged(t, y.stage, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
		files[path] = env
		replaceLeaf(leaves, kindSignIntent, 2, func(l *signIntentLeaf) { l.Digest = hexSHA256(text) })
		replaceLeaf(leaves, kindSignature, 2, func(l *signatureLeaf) { l.Signature = sig })
		replaceLeaf(leaves, kindArtefact, 2, func(l *artefactLeaf) { l.SHA256, l.Size = hexSHA256(env), len(env) })
		return leaves
	})
	if _, err := Verify(context.Background(), memory(lied), Anchors{Roster: &y.anchor}); err == nil || !strings.Contains(err.Error(), "it signs another manifest") {
		t.Errorf("another manifest than the one that was shown: %v", err)
	}
	same := forged(t, y.stage, files, func(_ map[string][]byte, l [][]byte) [][]byte { return l })
	if _, err := Verify(context.Background(), memory(same), Anchors{Roster: &y.anchor}); err != nil || !maps.EqualFunc(files, same, func(a, b []byte) bool { return len(a) > 0 && len(b) > 0 }) {
		t.Errorf("made anew and unchanged: %v", err)
	}
}

// replaceLeaf changes the leaves of a kind in a step.
func replaceLeaf[L any, P interface {
	*L
	leaf
}](leaves [][]byte, kind string, step int, change func(P)) {
	for i := range leaves {
		if h, err := headOf(leaves[i]); err != nil || h.Kind != kind || h.Step != step {
			continue
		}
		l := P(new(L))
		if decodeLeaf(leaves[i], l, kind) == nil {
			change(l)
			leaves[i] = encodeLeaf(l)
		}
	}
}

// TestNextRelease: the drafts of a first release and of the one after it pass check, and the ceremony of the second is held as it is drafted: the key
// is that of the first. Without a manifest, with one that is none, and where no key signed a release, there is no draft.
func TestNextRelease(t *testing.T) {
	y := holdRelease(t, "P-256")
	y.put("v0.2.0.json", manifestOfRelease(t, "v0.2.0"))
	next := func(version string) Next {
		manifest := manifestOfRelease(t, version)
		y.put("manifest.json", manifest)
		return Next{Kind: "release", From: y.day(), Folder: y.folder(1), Manifest: &NamedFile{File: filepath.Join(y.dir, "manifest.json"), Data: manifest}}
	}
	first := next("v0.2.0")
	first.Folder, first.Officers = "", &NamedFile{Name: "roster", File: filepath.Join(y.dir, "roster.json"), Data: []byte(readFile(t, filepath.Join(y.dir, "roster.json")))}
	text, plan, err := drafted(t, y.dir, nil, first)
	if err != nil || plan.Signatures["release-key"] != 1 {
		t.Fatalf("%v, %+v", err, plan)
	}
	has := func(words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in\n%s", w, text)
			}
		}
	}
	has("init-token: {token: releases}", "name: v0.2.0,", "class: backup", "backup-key", "ceremony: demo-1\n")
	status := func() *Status {
		s, err := ReadStatus(context.Background(), os.DirFS(y.folder(1)), y.folder(1), Anchors{Roster: &y.anchor})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		version, want string
	}{{"v0.2.0", "name: v0.2.0,"}, {"v0.3.0-RC1", "name: release,"}, {"v0.2.1", "name: v0.2.1,"}} {
		text, plan, err = drafted(t, y.dir, status(), next(c.version))
		if err != nil || plan.Signatures["release-key"] != 1 {
			t.Fatalf("%s: %v, %+v", c.version, err, plan)
		}
		has("import-artefact: {key: release-key,", c.want, "Release "+c.version+" of commit")
	}
	// The last one is held as it stands.
	file := filepath.Join(y.dir, "script-release.yaml")
	script, err := LoadScript(file)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = script.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	config := y.config(plan)
	config.Open = func(ctx context.Context, _ string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		return y.open(ctx, "roots", uri, pin)
	}
	if _, err := Run(context.Background(), config); err != nil {
		t.Fatal(err)
	}
	if r := y.ended(); len(r.Releases) != 1 || r.Releases[0].Version != "v0.2.1" {
		t.Errorf("%+v", r.Releases)
	}
	for what, n := range map[string]Next{"which release": {Kind: "release", From: y.day()}, "no release": {Kind: "release", From: y.day(), Manifest: &NamedFile{File: "x", Data: []byte("{}")}}} {
		if _, _, err := drafted(t, y.dir, status(), n); err == nil {
			t.Errorf("%s: a draft", what)
		}
	}
	if _, _, err := drafted(t, y.dir, goldenStatus(t, "second"), next("v0.2.1")); err == nil || !strings.Contains(err.Error(), "no key that signed a release") {
		t.Errorf("%v", err)
	}
}
