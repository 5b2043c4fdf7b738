package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	evidence = regexp.MustCompile("`([a-z0-9/-]+): ((?:Test|Fuzz)\\w+)`")
	// A helper that is given f adds the seeds (and must fail when it has none).
	seedingHelper = regexp.MustCompile(`\b\w*(?i:fuzz|seed|corpus)\w*\(f\b`)
	row           = regexp.MustCompile(`(?m)^\| ((?:A|CA|CER)-\d+) \|.*$`)
)

// TestAssurance: each claim of docs/ASSURANCE.md names at least one test, and each test that it names exists.
func TestAssurance(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ASSURANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := row.FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 10 {
		t.Fatalf("only %d rows found", len(rows))
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r[1]] {
			t.Errorf("%s stands twice", r[1])
		}
		seen[r[1]] = true
		named := evidence.FindAllStringSubmatch(r[0], -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", r[1])
		}
		for _, n := range named {
			if !hasFunc(t, n[1], n[2]) {
				t.Errorf("%s names %s in %s: there is none", r[1], n[2], n[1])
			}
		}
	}
}

// TestEveryRuleIsAssured: each rule that the code declares has a row.
func TestEveryRuleIsAssured(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ASSURANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`"((?:CA|CER)-\d{3})"`)
	found := 0
	for _, folder := range []string{"ca", "ceremony"} {
		files, err := filepath.Glob(filepath.Join("../..", folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range declared.FindAllStringSubmatch(string(b), -1) {
				found++
				if !strings.Contains(string(doc), "| "+m[1]+" |") {
					t.Errorf("%s declares %s, which docs/ASSURANCE.md lacks", f, m[1])
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d rules found", found)
	}
}

func hasFunc(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// TestFuzzTargetsHaveSeeds: a fuzz target without a seed starts from nothing and proves nothing in make test.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\) \{((?s:.*?))^\}`)
	found := 0
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range target.FindAllStringSubmatch(string(b), -1) {
			found++
			seeds, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "testdata", "fuzz", m[1], "*"))
			if !strings.Contains(m[2], "f.Add(") && len(seeds) == 0 && !seedingHelper.MatchString(m[2]) {
				t.Errorf("%s: %s has no seed", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 5 {
		t.Errorf("only %d fuzz targets found", found)
	}
}
