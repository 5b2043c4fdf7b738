package paper

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hanaper/hanaper/internal/show"
)

// everything puts text into every place of a document.
func everything(text string, steps int) *Document {
	d := &Document{Title: text, Subtitle: text, Notice: text, Footer: text, Date: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC),
		Sections: []Section{{Title: text, NewPage: true, Blocks: []Block{
			Text(text), Warning(text), Facts{{Label: text, Value: text}, {Label: text, Value: text, Code: true}, {Label: text}}, Grid{{text, text}},
			Table{Head: []string{text, text}, Weights: []float64{1, 3}, Code: []bool{true}, Rows: [][]string{{text, text}, nil}, Height: 9},
			Form{text, []FormRow{{10, []Box{{Label: text, Value: text}, {Label: text, Weight: 2}}}}},
		}}}}
	for i := range steps {
		d.Sections[0].Blocks = append(d.Sections[0].Blocks, Step{Number: i + 1, Kind: text, Place: text, Text: text, Who: text, Warning: text,
			Facts: Facts{{Label: text, Value: text}}, Log: &Table{Head: []string{text}, Rows: [][]string{{text}}}, Boxes: []Box{{Label: text, Value: text}}})
	}
	return d
}

// pdfText is the text of d as PDF, page by page.
func pdfText(t *testing.T, d *Document) []string {
	t.Helper()
	var b bytes.Buffer
	if err := PDF(&b, d); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "out.pdf")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("KEEP_PRINTED"); dir != "" {
		_ = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_")+".pdf"), b.Bytes(), 0o644)
	}
	out, err := exec.Command("pdftotext", "-raw", name, "-").CombinedOutput()
	if err != nil {
		t.Fatalf("pdftotext (apt-get install poppler-utils): %v: %s", err, out)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\f"), "\f")
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), "") }

// TestHostile: what a script's author writes is text and nothing else.
func TestHostile(t *testing.T) {
	for _, text := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</style><script>x</script>`, `{{.}}`, `javascript:alert(1)`,
		`} body { display: none } @import "http://example.com/x.css"; .x {`, `'; content: url(http://example.com)`, `\3c script\3e`, "a\u202Egnirts", "</title><meta http-equiv=refresh content=0;url=//e>",
		"nul\x00 bell\a tab\t newline\n end", "bytes \xff\xfe end", `\") Tj ET q (`,
	} {
		var b bytes.Buffer
		d := everything(text, 2)
		if err := HTML(&b, d); err != nil {
			t.Fatal(err)
		}
		page := b.String()
		for _, bad := range []string{"<script", "<img", "</style><", "\u202e", "\x00", "\xff"} {
			if strings.Contains(strings.ToLower(page), bad) {
				t.Errorf("%q: the page holds %q", text, bad)
			}
		}
		wellFormed(t, text, page)
		clean := everything("x", 2)
		b.Reset()
		if err := HTML(&b, clean); err != nil {
			t.Fatal(err)
		}
		if a, b := elements(page), elements(b.String()); a != b {
			t.Errorf("%q adds elements:\n%s\n%s", text, a, b)
		}
		all := squeeze(strings.Join(pdfText(t, d), ""))
		if want := squeeze(visible(text)); strings.Count(all, want) < 10 {
			t.Errorf("%q: %q stands in the PDF %d times", text, want, strings.Count(all, want))
		}
	}
}

var tag = regexp.MustCompile(`</?[a-z0-9]+`)

func elements(page string) string { return strings.Join(tag.FindAllString(page, -1), " ") }

// wellFormed reads the page as XML, but for the elements that HTML leaves open, and asks for elements that act to be absent.
func wellFormed(t *testing.T, name, page string) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(strings.Replace(page, "<!DOCTYPE html>", "", 1)))
	dec.Strict, dec.AutoClose, dec.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		el, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		switch el.Name.Local {
		case "script", "img", "iframe", "object", "link", "a", "form", "base", "svg":
			t.Errorf("%q: element %s", name, el.Name.Local)
		}
		for _, a := range el.Attr {
			if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "src" || a.Name.Local == "href" {
				t.Errorf("%q: attribute %s", name, a.Name.Local)
			}
		}
	}
}

// TestOddText: no character is lost, whatever it is; what cannot be printed stands there by its number.
func TestOddText(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	ranges := []struct{ lo, hi rune }{{0, 0x7f}, {0x80, 0x24f}, {0x370, 0x5ff}, {0x1e00, 0x206f}, {0x20a0, 0x2bff}, {0x4e00, 0x4fff}, {0xd7f0, 0xe010}, {0xfe00, 0xffff}, {0x1f300, 0x1f6ff}}
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		var b strings.Builder
		for range 300 {
			r := ranges[rng.IntN(len(ranges))]
			b.WriteRune(r.lo + rng.Int32N(r.hi-r.lo+1))
			if rng.IntN(40) == 0 {
				b.WriteByte(byte(0x80 + rng.IntN(0x80)))
			}
		}
		text := b.String()
		d := &Document{Title: "Odd text", Footer: "footer", Sections: []Section{{Blocks: []Block{Text(text), Step{Number: 7, Kind: "kind", Text: text}}}}}
		all := squeeze(strings.Join(pdfText(t, d), ""))
		// What stands on a page is compared without the head and foot of each page and hyphenation of pdftotext.
		want := squeeze(visible(text))
		if got := strings.Count(all, want); got != 2 && !acrossPages(all, want) {
			t.Errorf("%q\nis not whole in the PDF:\n%.3000s", want, all)
		}
		var page bytes.Buffer
		if err := HTML(&page, d); err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(page.Bytes()) || strings.ContainsRune(page.String(), utf8.RuneError) {
			t.Error("the HTML holds what is no character")
		}
	}
}

// acrossPages is true where want stands in all but for what a page's end puts between.
func acrossPages(all, want string) bool {
	for i := range want {
		if strings.Contains(all, want[:i]) && strings.Contains(all, want[i:]) {
			return true
		}
	}
	return false
}

// TestLong: names without a space, long texts and many steps wrap and page; every page has its number and its footer.
func TestLong(t *testing.T) {
	word := strings.Repeat("Donaudampfschifffahrtsgesellschaft-", 20)
	text := strings.Repeat("many words in a row ", 150)
	d := &Document{Title: word, Subtitle: text, Footer: "footer 0123456789", Notice: "REHEARSAL"}
	sec := Section{Title: word, Blocks: []Block{Text(text), Facts{{word, word, true}, {text, text, false}, {Label: word}},
		Table{Head: []string{"a", word, "c"}, Rows: [][]string{{word, text + text + text, "1"}, {"1", "2", word}}}}}
	for i := range 200 {
		sec.Blocks = append(sec.Blocks, Step{Number: i + 1, Kind: "kind", Place: fmt.Sprintf("line %d", i), Text: fmt.Sprintf("step-%d-begins %s step-%d-ends", i, text[:i*12], i),
			Facts: Facts{{Label: "value", Value: word[:3*i+1]}}, Boxes: []Box{{Label: "Time"}, {Label: "Initials"}}})
	}
	sec.Blocks = append(sec.Blocks, Step{Number: 201, Kind: "long", Text: text, Log: &Table{Head: []string{"a"}, Rows: slicesOf(text, 60)}})
	d.Sections = []Section{sec}
	pages := pdfText(t, d)
	for i, p := range pages {
		for _, want := range []string{fmt.Sprintf("page %d of %d", i+1, len(pages)), "footer 0123456789", "REHEARSAL"} {
			if !strings.Contains(p, want) {
				t.Errorf("page %d has no %q", i+1, want)
			}
		}
	}
	all := squeeze(strings.Join(pages, ""))
	for i := range 200 {
		for _, want := range []string{fmt.Sprintf("step-%d-begins", i), fmt.Sprintf("step-%d-ends", i)} {
			if !strings.Contains(all, want) {
				t.Errorf("%s is missing", want)
			}
		}
	}
	if !strings.Contains(all, squeeze(word)) || strings.Count(all, squeeze("many words in a row")) < 150*8 {
		t.Error("text was cut")
	}
	inside(t, d)
}

func slicesOf(text string, n int) [][]string {
	var rows [][]string
	for range n {
		rows = append(rows, []string{text})
	}
	return rows
}

var box = regexp.MustCompile(`<word xMin="([0-9.]+)" yMin="([0-9.]+)" xMax="([0-9.]+)" yMax="([0-9.]+)">(.*)</word>`)

// inside asks that no word leaves the page's margins.
func inside(t *testing.T, d *Document) {
	t.Helper()
	var b bytes.Buffer
	if err := PDF(&b, d); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "out.pdf")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pdftotext", "-bbox", name, "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range box.FindAllStringSubmatch(string(out), -1) {
		var x1, y1, x2, y2 float64
		if _, err := fmt.Sscan(m[1]+" "+m[2]+" "+m[3]+" "+m[4], &x1, &y1, &x2, &y2); err != nil {
			t.Fatal(err)
		}
		n++
		const mm = 72 / 25.4
		if x1 < (left-0.5)*mm || x2 > (left+width+0.5)*mm || y1 < 8*mm || y2 > (pageHeight-10)*mm {
			t.Errorf("%q leaves the page: %v", m[5], m[1:5])
		}
	}
	if n < 1000 {
		t.Errorf("only %d words found", n)
	}
}

// TestSameFile: the same document is the same file.
func TestSameFile(t *testing.T) {
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := PDF(w, everything("same", 3)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two files of one document differ")
	}
	inside(t, everything("Some words of a text ", 60))
}

func TestVisible(t *testing.T) {
	for _, c := range []struct{ in, html, pdf string }{
		{"plain", "plain", "plain"},
		{"Zürich – “x” €", "Zürich – “x” €", "Zürich – “x” €"},
		{"Łódź", "Łódź", `\u0141ód\u017a`},
		{"漢字", "漢字", `\u6f22\u5b57`},
		{"a\u202eb\u200bc\u00a0d\u00ade", `a\u202eb\u200bc\u00a0d\u00ade`, `a\u202eb\u200bc\u00a0d\u00ade`},
		{"x\ny\tz\x00", `x\ny\tz\x00`, `x\ny\tz\x00`},
		{"\xff\xfe", `\xff\xfe`, `\xff\xfe`},
		{"\ufffd", `\ufffd`, `\ufffd`},
		{"", "", ""},
	} {
		if got := show.Line(c.in); got != c.html {
			t.Errorf("show.Line(%q) = %q, want %q", c.in, got, c.html)
		}
		if got := visible(c.in); got != c.pdf {
			t.Errorf("for the PDF %q is %q, want %q", c.in, got, c.pdf)
		}
	}
}

// FuzzVisible: what is shown is printable, in the code page, and as long as before or longer.
func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "plain", "Łódź 漢字", "\u202e", "\xff", "a\x00b", "€", "\u00ad", strings.Repeat("x", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, v := range []string{show.Line(s), visible(s)} {
			if !utf8.ValidString(v) || len([]rune(v)) < len([]rune(s)) || visible(v) == "" && s != "" {
				t.Errorf("%q is shown as %q", s, v)
			}
		}
		if b := latin(s); len(b) != len([]rune(visible(s))) {
			t.Errorf("%q: %d bytes in the code page", s, len(b))
		}
	})
}
