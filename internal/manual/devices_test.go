package manual

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDevicePages: each page about a device has the same sections, names the documents that it rests on with a version or a date, and
// says what is untested.
func TestDevicePages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/hsm/*.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	index, err := os.ReadFile("../../docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	dated := regexp.MustCompile(`(?i)version|v?\d+\.\d+|20\d\d`)
	for _, page := range pages {
		name := filepath.Base(page)
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		sections := map[string]string{}
		for _, s := range strings.Split("\n"+string(b), "\n## ")[1:] {
			head, body, _ := strings.Cut(s, "\n")
			sections[head] = strings.TrimSpace(body)
		}
		want := []string{"Naming the token", "Logging in", "Key classes", "Backup", "Tried here", "Not tried", "Sources"}
		if name == "stores.md" {
			want = []string{"When it goes wrong", "Tried here", "Not tried", "Sources"}
		}
		for _, s := range want {
			if sections[s] == "" {
				t.Errorf("%s: no section %q", name, s)
			}
		}
		if !strings.Contains(strings.ToLower(sections["Not tried"]), "untested") {
			t.Errorf("%s does not say what is untested", name)
		}
		if !dated.MatchString(sections["Sources"]) {
			t.Errorf("%s: no source has a version or a date", name)
		}
		if name != "stores.md" && !strings.Contains(sections["Backup"], "manual-clone") {
			t.Errorf("%s: nothing about manual-clone", name)
		}
		if !strings.Contains(string(index), "hsm/"+name) {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}
