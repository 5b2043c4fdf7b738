package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestDropIn runs the guide's page and the build layer's commands under garage-sign's name, with each way to log in. OAuth2
// under our own name is what TestScripts runs.
func TestDropIn(t *testing.T) {
	for _, login := range []string{"mtls", "none"} {
		dir := t.TempDir()
		for _, name := range []string{"guide", "build"} {
			b, err := os.ReadFile("testdata/script/" + name + ".txtar")
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			if !strings.Contains(text, "server office sealed oauth\n") || !strings.Contains(text, "exec hanaper-sign ") {
				t.Fatalf("%s begins with another server, or calls another program", name)
			}
			text = strings.NewReplacer("server office sealed oauth\n", "server office sealed "+login+"\n", "hanaper-sign ", "garage-sign ").Replace(text)
			if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(login, func(t *testing.T) { runScripts(t, dir) })
	}
}

// TestDifferencesAreListed: whatever a help text calls not in garage-sign stands in the one table of the differences.
func TestDifferencesAreListed(t *testing.T) {
	page, err := os.ReadFile("../../docs/spec/uptane.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "## Differences from garage-sign")
	if !found {
		t.Fatal("the page has no table of the differences")
	}
	seen := 0
	mark := func(path, name, usage string) {
		if !strings.Contains(usage, "(not in garage-") {
			return
		}
		seen++
		if !strings.Contains(table, name) {
			t.Errorf("%s: %s is not in the table of docs/spec/uptane.md", path, name)
		}
	}
	var walk func(path string, list []*cli.Command)
	walk = func(path string, list []*cli.Command) {
		for _, c := range list {
			at := strings.TrimSpace(path + " " + c.Name)
			mark(at, strings.Join(strings.Fields(at)[max(0, strings.Count(at, " ")-1):], " "), c.Usage)
			for _, f := range c.Flags {
				mark(at, "`--"+f.Names()[0], f.(cli.DocGenerationFlag).GetUsage())
			}
			walk(at, c.Subcommands)
		}
	}
	walk("", commands())
	if seen < 12 {
		t.Errorf("%d help texts name a difference", seen)
	}
}
