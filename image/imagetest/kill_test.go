package imagetest

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// place is one at which the plug is pulled: when a text is shown, or a while later, which on a busy machine may be elsewhere.
type place struct {
	name, text string
	after      time.Duration
	// begun says that the ceremony had begun, so that it is gone on with; otherwise it is performed as if nothing had been.
	begun bool
	// then is what people do after the next start: go on, or abort. In again the plug is pulled once more while they do.
	then, again string
}

const (
	goesOn = "goes on"
	aborts = "aborts"
)

// places are in the order in which a ceremony comes by them.
var places = []place{
	{name: "between the officers' passphrases", text: "fleet/grace.key: ", then: goesOn},
	{name: "before the first step", text: "Before the first step", begun: true, then: goesOn},
	{name: "a key is generated", text: "step 1 of 4: generate", begun: true, then: goesOn},
	{name: "a key is generated, later", text: "step 1 of 4: generate", after: 300 * time.Millisecond, begun: true, then: goesOn},
	{name: "a certificate is signed", text: "step 2 of 4: self-sign", after: 100 * time.Millisecond, begun: true, then: goesOn},
	{name: "between two steps", text: "NEXT: step 3 of 4", begun: true, then: goesOn, again: "logging in anew"},
	{name: "a second key is generated", text: "step 3 of 4: generate", after: 150 * time.Millisecond, begun: true, then: aborts},
	{name: "after the last step", text: "That was the last step", begun: true, then: goesOn},
	{name: "the keys are looked for again", text: "logging in anew", begun: true, then: goesOn},
	{name: "the officers sign the transcript", text: "signing the transcript", begun: true, then: goesOn},
	{name: "it has ended, nothing is printed yet", text: "signed by ada, grace", begun: true},
	{name: "while it is saved to a stick", text: "file 6 of ", begun: true},
}

// TestImageKill pulls the plug at these places, each on sticks as they were before the ceremony, and goes on after a new start. What the
// screen had said to be done is in the end in transcript and artefacts as it was said; the token has one key of each name, or after an
// abort none; the file systems are whole; no secret is left; and the folder is saved to a stick. Then an auditor verifies all of those
// sticks on a machine started anew, and is told of the one in which a byte was changed.
// It is long: HANAPER_SOAK asks for it. TestImage is the short form.
func TestImageKill(t *testing.T) {
	image(t)
	if os.Getenv("HANAPER_SOAK") == "" {
		t.Skip("make soak")
	}
	d := newDesk(t)
	fresh := d.sticks()
	var saved []string
	for n, p := range places {
		s := d.again(fresh, string(rune('a'+n)))
		t.Run(p.name, func(t *testing.T) {
			at := *d
			at.t = t
			at.killed(p, s)
			if p.then != aborts {
				saved = append(saved, s.copy)
			}
		})
	}
	if t.Failed() {
		return
	}
	saved = append(saved, d.changed(saved[0], "artefacts/fleet-root.pem"))
	before := digests(t, saved)
	g := boot(t, "", saved...)
	verified := 0
	for n := range saved {
		if d.audits(g, n+1) {
			verified++
		}
	}
	if verified != len(saved)-1 {
		t.Errorf("%d of %d sticks verify, of which one was changed", verified, len(saved))
	}
	if g.menu("0") != 0 {
		t.Error("a stick that was let go of was taken for one that was cut off")
	}
	g.answers("Type off and Enter", "off")
	g.leaves()
	if after := digests(t, saved); strings.Join(before, " ") != strings.Join(after, " ") {
		t.Error("the auditor's machine wrote to a stick that it only read")
	}
}

// killed holds a ceremony, pulls the plug at a place, starts the machine anew, and brings the ceremony to its end.
func (d *desk) killed(p place, s sticks) {
	t := d.t
	var sat []*guest
	boots := func() *guest {
		sat = append(sat, boot(t, "", s.all()...))
		return sat[len(sat)-1]
	}
	g := boots()
	d.performs(g)
	ended := d.carriesOn(g, time.Hour, p.text) < 0
	if ended && p.then == "" { // the last place: it is pulled while the folder is saved
		g.menu("9")
		g.answers("Type a number and Enter", "3")
		g.answers("Type a number and Enter", "1")
		g.picks("COPY, UUID")
		g.sees(p.text)
	} else if ended {
		t.Fatalf("%q was not shown", p.text)
	}
	time.Sleep(p.after)
	g.pull()
	said := done(g.shown())
	for again := p.again; again != ""; again = "" {
		g = boots()
		d.goesOn(g, p)
		if d.carriesOn(g, 90*time.Minute, again) < 0 {
			t.Fatalf("%q was not shown", again)
		}
		g.pull()
	}

	g = boots()
	switch {
	case !p.begun:
		g.menu("8")
		g.answers("No folder of a ceremony that was cut short was found", "")
		d.performs(g)
		d.carriesOn(g, 2*time.Hour)
	case p.then != "":
		d.goesOn(g, p)
		d.carriesOn(g, 2*time.Hour)
	}
	// Half a copy is taken for nothing, and is not in the way.
	g.saves()
	g.off()

	out := d.path("out-" + strings.TrimSuffix(filepath.Base(s.fleet), ".img"))
	host(t, "mkdir", out)
	host(t, "mcopy", "-s", "-n", "-i", s.fleet, "::fleet/ceremony-1", out)
	host(t, "mcopy", "-s", "-n", "-i", s.copy, "::ceremony-1", filepath.Join(out, "copy"))
	host(t, "diff", "-r", filepath.Join(out, "ceremony-1"), filepath.Join(out, "copy"))
	if left := host(t, "mdir", "-b", "-i", s.copy, "::"); strings.TrimSpace(left) != "::/ceremony-1/" {
		t.Errorf("the stick COPY holds more than the folder: %s", left)
	}
	out = filepath.Join(out, "ceremony-1")
	report := d.run(d.program, "ceremony", "verify", "--roster", d.roster, out)
	want, keys := "verified: script, transcript and artefacts agree", 1
	if p.then == aborts {
		want, keys = "ABORTED: the ceremony ended without a result", 0
	}
	if !strings.Contains(report, want) {
		t.Errorf("verify: %s", report)
	}
	if p.then != aborts {
		d.holds(out, said)
	}
	for _, label := range []string{"Fleet Root", "Operations Root"} {
		if n := d.keysIn(s.token, label); n != keys {
			t.Errorf("the token has %d keys with the label %s, want %d", n, label, keys)
		}
	}
	for _, stick := range []string{s.token, s.state} {
		host(t, "e2fsck", "-f", "-n", stick)
	}
	for _, stick := range []string{s.fleet, s.copy} {
		d.checksFAT(stick)
	}
	d.noSecrets(s, sat...)
}

// goesOn chooses to go on with the folder that was cut short, or to abort it.
func (d *desk) goesOn(g *guest, p place) {
	g.t.Helper()
	finished := g.menu("8")
	g.t.Logf("%d sticks had been cut off while they were written", finished)
	if finished == 0 {
		g.t.Error("no stick was cut off while it was written, although the plug was pulled in a run")
	}
	g.sees("ceremony-1")
	g.answers("Type a number and Enter", "1")
	g.sees("this machine's memory, on the stick")
	if p.then == aborts {
		g.answers("Type a number and Enter", "2")
		g.answers("Why is it aborted?", "the power failed")
	} else {
		g.answers("Type a number and Enter", "1")
	}
	d.people(g)
	g.answers("Type go and Enter", "go")
}

// said is what the screen told to be done: public keys and serial numbers, by the artefact.
var said = map[string]*regexp.Regexp{
	"fleet-root-key.pub.pem":      regexp.MustCompile(`(?s)DONE: step 1 of 4.*?\n +([0-9a-f]{64})\n.*?Digest of the transcript`),
	"fleet-root.pem":              regexp.MustCompile(`(?s)DONE: step 2 of 4.*?\n +([0-9a-f]{20,40})\n.*?Digest of the transcript`),
	"operations-root-key.pub.pem": regexp.MustCompile(`(?s)DONE: step 3 of 4.*?\n +([0-9a-f]{64})\n.*?Digest of the transcript`),
}

func done(shown string) map[string]string {
	told := map[string]string{}
	for name, form := range said {
		if found := form.FindStringSubmatch(shown); found != nil {
			told[name] = found[1]
		}
	}
	return told
}

// holds: the artefacts are what the screen had said before the plug was pulled.
func (d *desk) holds(out string, told map[string]string) {
	d.t.Helper()
	for name, want := range told {
		data, err := os.ReadFile(filepath.Join(out, "artefacts", name))
		if err != nil {
			d.t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		if block == nil {
			d.t.Errorf("%s is not PEM", name)
			continue
		}
		sum := sha256.Sum256(block.Bytes)
		got := hex.EncodeToString(sum[:])
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				d.t.Fatal(err)
			}
			got = hex.EncodeToString(c.SerialNumber.Bytes())
		}
		if got != want {
			d.t.Errorf("the screen said %s of %s, which is %s", want, name, got)
		}
	}
	d.t.Logf("%d things that were said to be done are there", len(told))
}

// keysIn counts the private keys with a label in the token on a stick.
func (d *desk) keysIn(stick, label string) (n int) {
	d.t.Helper()
	dir := d.t.TempDir()
	host(d.t, "debugfs", "-R", "rdump /softhsm "+dir, stick)
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "softhsm")+"\n"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command("pkcs11-tool", "--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "Fleet Roots", "--login", "--pin", d.pin, "--list-objects")
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+conf)
	said, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("pkcs11-tool: %v: %s", err, said)
	}
	private := false
	for l := range strings.Lines(string(said)) {
		if !strings.HasPrefix(l, " ") {
			private = strings.HasPrefix(l, "Private Key Object")
		}
		if name, ok := strings.CutPrefix(strings.TrimSpace(l), "label:"); ok && private && strings.TrimSpace(name) == label {
			n++
		}
	}
	return n
}

// checksFAT: a FAT that was cut off may keep the mark that says so, and clusters that no file has; nothing else may be wrong with it.
func (d *desk) checksFAT(stick string) {
	d.t.Helper()
	out, _ := exec.Command("fsck.vfat", "-n", "-v", stick).CombinedOutput()
	for _, wrong := range []string{"share clusters", "Bad ", "bad ", "File size is", "Directory has", "Contains a free cluster", "FATs differ", "Duplicate"} {
		if bytes.Contains(out, []byte(wrong)) {
			d.t.Errorf("%s: %s", filepath.Base(stick), out)
			return
		}
	}
	d.t.Logf("%s: %s", filepath.Base(stick), strings.Join(strings.Fields(string(out[max(0, len(out)-300):])), " "))
}
