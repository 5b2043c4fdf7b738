package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/strict"
)

var update = flag.Bool("update", false, "draw docs/chain.svg anew")

// TestChain: docs/chain.svg is drawn from docs/chain.yaml, which names only programs that exist.
func TestChain(t *testing.T) {
	var c chain
	if err := strict.ReadFile("../../docs/chain.yaml", &c); err != nil {
		t.Fatal(err)
	}
	for _, b := range c.Boxes {
		if name, ok := strings.CutPrefix(b.Title, "hanaper"); ok {
			if _, err := os.Stat("../../cmd/hanaper" + name); err != nil {
				t.Error(err)
			}
		}
	}
	drawn, err := c.draw()
	if err != nil || c.Format != 1 {
		t.Fatalf("format %d, %v", c.Format, err)
	}
	const path = "../../docs/chain.svg"
	if *update {
		if err := os.WriteFile(path, []byte(drawn), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != drawn {
		t.Errorf("docs/chain.svg is not what docs/chain.yaml draws (%v): go test ./internal/site -run Chain -update", err)
	}
}

// TestSite: the project's pages become a site in which every link leads somewhere; nothing in it is fetched from elsewhere, and in a real
// browser, from a folder, the search finds a section by words of its text.
func TestSite(t *testing.T) {
	out := filepath.Join(t.TempDir(), "site")
	if err := build("../..", out, ""); err != nil {
		t.Fatal(err)
	}
	if err := build("../..", out, ""); err == nil {
		t.Error("a folder that holds something was written into")
	}
	page, err := os.ReadFile(filepath.Join(out, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, far := range []string{`src="http`, `href="//`, `src="//`, `rel="preconnect"`} {
		if strings.Contains(string(page), far) {
			t.Errorf("index.html has %s", far)
		}
	}
	profile := t.TempDir()
	dom, err := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+profile, "--virtual-time-budget=5000", "--dump-dom",
		"file://"+out+"/docs/index.html?q=frozen+nextUpdate").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, found, _ := strings.Cut(string(dom), `id="found"`); !strings.Contains(found, `href="../docs/spec/trust.html#crls-that-ended"`) {
		t.Errorf("the search does not find the section:\n%.2000s", found)
	}
}

// project is a small project in a folder of its own, with a link in its first page, and further pages.
func project(t *testing.T, link string, further ...string) string {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{"README.md": "# R\n[l](" + link + ")\n", "CHANGELOG.md": "# C\n", "SECURITY.md": "# S\n", "CONTRIBUTING.md": "# C\n", "LICENSE": "l",
		"docs/README.md": "# D\n## Part\n[a](a.md)\n", "docs/a.md": "# A\n## Right\ntext\n", "internal/x.go": "package x\n"}
	for _, name := range further {
		files[name] = "# F\n"
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestLinks: a page with a link that leads nowhere, to a heading that is not there, or out of the site, and a page that the list of documents
// lacks, are refused, and no site is finished.
func TestLinks(t *testing.T) {
	for _, c := range []struct{ link, further, want string }{
		{"docs/none.md", "", "leads nowhere"}, {"docs/a.md#nothing", "", "no heading"}, {"internal/x.go", "", "out of the site"}, {"docs/a.md#right", "", ""},
		{"docs/b.md", "docs/b.md", "docs/README.md does not list docs/b.md"},
	} {
		root := project(t, c.link, slices.DeleteFunc([]string{c.further}, func(s string) bool { return s == "" })...)
		out := filepath.Join(root, "out")
		err := build(root, out, "")
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.link, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.link, err)
		}
		if _, err := os.Stat(filepath.Join(out, "search.js")); err == nil {
			t.Errorf("%s: a site was finished", c.link)
		}
	}
}
