package ceremony

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/internal/advice"
)

// printed gives the text of a document as PDF, as pdftotext reads it, and as HTML; white space is taken out.
func printed(t *testing.T, d *paper.Document) (pdf, html string, pages int) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "out.pdf")
	var b bytes.Buffer
	if err := paper.PDF(&b, d); err != nil {
		t.Fatal(err)
	}
	keep(t, ".pdf", b.Bytes())
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pdftotext", "-raw", name, "-").Output()
	if err != nil {
		t.Fatalf("pdftotext (apt-get install poppler-utils): %v", err)
	}
	b.Reset()
	if err := paper.HTML(&b, d); err != nil {
		t.Fatal(err)
	}
	keep(t, ".html", b.Bytes())
	text := b.String()
	for _, c := range []struct{ from, to string }{{"&#34;", `"`}, {"&#39;", "'"}, {"&#43;", "+"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&amp;", "&"}} {
		text = strings.ReplaceAll(text, c.from, c.to)
	}
	return squeeze(string(out)), squeeze(text), strings.Count(string(out), "\f")
}

// keep leaves what was printed in the folder that KEEP_PRINTED names, to be looked at.
func keep(t *testing.T, suffix string, data []byte) {
	if dir := os.Getenv("KEEP_PRINTED"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_")+suffix), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), "") }

// TestPrint: both forms hold every step in its words, every pinned digest and everyone of the roster.
func TestPrint(t *testing.T) {
	s := newStage(t)
	p := s.plan(s.full())
	pdf, html, pages := printed(t, p.Paper(Tool{}))
	var want []string
	for _, st := range p.Steps {
		want = append(want, fmt.Sprintf("%d%s", st.Number, st.Kind), st.Describe, fmt.Sprintf("script.yaml,line%d", st.Line))
	}
	for _, d := range p.script.InputDigests() {
		want = append(want, fmt.Sprintf("%x", d))
	}
	for _, o := range p.roster.Officers() {
		want = append(want, o.Name, o.KeyID[:16])
	}
	for _, b := range s.boards {
		want = append(want, b.Label, b.Serial)
	}
	for _, path := range p.Outputs {
		want = append(want, ofContent.ReplaceAllString(path, "(SHA-256)"))
	}
	want = append(want, "script SHA-256 "+fmt.Sprintf("%x", p.script.Digest()), "The first ceremony of the demo fleet", "Exception form", "2 of 3 officers", "initials")
	for _, w := range spoken(p.script.Digest()) {
		want = append(want, w.Code+w.Word)
	}
	for _, w := range want {
		// The grid prints bytes above words in PDF: they are looked for apart.
		if !strings.Contains(html, squeeze(w)) && !strings.Contains(strings.NewReplacer("<code>", "", "</code>", "", "<span>", "", "</span>", "").Replace(html), squeeze(w)) {
			t.Errorf("not in the HTML: %q", w)
		}
		if len(w) > 2 && !strings.Contains(pdf, squeeze(w)) && !strings.Contains(pdf, squeeze(w[2:])) {
			t.Errorf("not in the PDF: %q", w)
		}
	}
	if pages < 5 || strings.Count(pdf, fmt.Sprintf("of%d", pages)) < pages {
		t.Errorf("%d pages, numbered %d times", pages, strings.Count(pdf, fmt.Sprintf("of%d", pages)))
	}
	if n := strings.Count(pdf, squeeze("script SHA-256 "+fmt.Sprintf("%x", p.script.Digest()))); n < pages {
		t.Errorf("the script's digest stands on %d of %d pages", n, pages)
	}
}

// TestRecord: the record of a finished ceremony holds every step and every entry; a folder that fails gives none.
func TestRecord(t *testing.T) {
	files, anchor := finishedFolder(t)
	d, err := Record(context.Background(), memory(files), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	pdf, html, _ := printed(t, d)
	r, err := Verify(context.Background(), memory(files), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{r.Checkpoint, r.Tool.SHA256, r.Asserted, "Who can be held to what"}
	for _, st := range r.Steps {
		want = append(want, st.Describe)
	}
	for _, k := range r.Keys {
		want = append(want, k.Fingerprint)
	}
	for _, n := range r.Artefacts {
		want = append(want, n, hexSHA256(files[n]))
	}
	for _, o := range append(r.Approvals, r.Signers...) {
		want = append(want, o.Name, o.KeyID)
	}
	for _, w := range want {
		if !strings.Contains(html, squeeze(w)) {
			t.Errorf("not in the HTML: %q", w)
		}
		if !strings.Contains(pdf, squeeze(w)) {
			t.Errorf("not in the PDF: %q", w)
		}
	}
	for i := range r.Entries {
		if !strings.Contains(html, fmt.Sprintf("<td>%d</td>", i)) && !strings.Contains(string(files[transcriptFile]), "step-done") {
			t.Errorf("entry %d is not in the record", i)
		}
	}
	if d.Notice != "" {
		t.Errorf("notice %q", d.Notice)
	}

	d, err = Record(context.Background(), memory(files), Anchors{})
	if err == nil || advice.KindOf(err) != advice.Unverified || d == nil || !strings.Contains(d.Notice, "NOT authenticated") {
		t.Errorf("without an anchor: %v", err)
	}
	anchor[0] ^= 1
	if d, err := Record(context.Background(), memory(files), Anchors{Roster: &anchor}); err == nil || d != nil || advice.KindOf(err) != advice.Unverified {
		t.Errorf("under another roster: %v", err)
	}
}
