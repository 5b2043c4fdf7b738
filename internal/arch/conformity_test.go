package arch

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/strict"
)

var update = flag.Bool("update", false, "write docs/conformity.md anew")

// conformity is docs/conformity.yaml.
type conformity struct {
	Format int `yaml:"format"`
	Parts  []struct {
		Title string `yaml:"title"`
		About string `yaml:"about"`
		Rows  []struct {
			Ref    string   `yaml:"ref"`
			Asks   string   `yaml:"asks"`
			Threat string   `yaml:"threat"`
			Risk   string   `yaml:"risk"`
			Claims []string `yaml:"claims"`
			Open   string   `yaml:"open"`
		} `yaml:"rows"`
	} `yaml:"parts"`
}

// TestConformity: docs/conformity.md is what docs/conformity.yaml and docs/ASSURANCE.md make; every claim that it names exists, and a row
// that names none says what is open. -update writes it anew.
func TestConformity(t *testing.T) {
	var c conformity
	if err := strict.ReadFile("../../docs/conformity.yaml", &c); err != nil {
		t.Fatal(err)
	}
	if c.Format != 1 || len(c.Parts) < 3 {
		t.Fatalf("format %d, %d parts", c.Format, len(c.Parts))
	}
	claims := claimsOf(t)
	var page strings.Builder
	page.WriteString(`# Conformity
Made from [ASSURANCE.md](ASSURANCE.md) and conformity.yaml; a test holds it to both. For each thing that the law asks: what threatens, what is at risk, which claim of ours answers it, and by how many
tests that claim is shown. Nothing is claimed here that is not claimed there. *Open* is what no test shows, or what is the manufacturer's own to do. The requirements are in our own words: the texts of the law decide, and
whether a product conforms is for its manufacturer, not for this page, to say.
`)
	for _, p := range c.Parts {
		fmt.Fprintf(&page, "\n## %s\n%s\n\n| asks | threat: risk | control | shown by | open |\n|---|---|---|---|---|\n", p.Title, p.About)
		for _, r := range p.Rows {
			if r.Ref == "" || r.Asks == "" || r.Threat == "" || r.Risk == "" || len(r.Claims) == 0 && r.Open == "" {
				t.Errorf("%s %s: a field is missing", p.Title, r.Ref)
			}
			var controls []string
			tests := map[string]bool{}
			for i, id := range r.Claims {
				row, ok := claims[id]
				if !ok {
					t.Errorf("%s %s names %s, which ASSURANCE.md lacks", p.Title, r.Ref, id)
				}
				if slices.Contains(r.Claims[:i], id) {
					t.Errorf("%s %s names %s twice", p.Title, r.Ref, id)
				}
				controls = append(controls, id+" "+row.text)
				for _, name := range row.tests {
					tests[name] = true
				}
			}
			shown := ""
			if len(tests) > 0 {
				shown = fmt.Sprint(len(tests), " tests")
			}
			fmt.Fprintf(&page, "| %s %s | %s: %s | %s | %s | %s |\n", r.Ref, r.Asks, r.Threat, r.Risk, strings.Join(controls, "; "), shown, r.Open)
		}
	}
	const path = "../../docs/conformity.md"
	if *update {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != page.String() {
		t.Errorf("docs/conformity.md is not what its sources make (%v): go test ./internal/arch -run Conformity -update", err)
	}
}

type claim struct {
	text  string
	tests []string
}

// claimsOf reads the rows of ASSURANCE.md.
func claimsOf(t *testing.T) map[string]claim {
	t.Helper()
	doc, err := os.ReadFile("../../docs/ASSURANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`^\| (\S+) \| (.*?) \| `)
	all := map[string]claim{}
	for _, r := range row.FindAllString(string(doc), -1) {
		m := text.FindStringSubmatch(r)
		if m == nil {
			t.Fatalf("a row of ASSURANCE.md cannot be read: %s", r)
		}
		c := claim{text: m[2]}
		for _, e := range evidence.FindAllStringSubmatch(r, -1) {
			c.tests = append(c.tests, e[1]+": "+e[2])
		}
		all[m[1]] = c
	}
	return all
}
