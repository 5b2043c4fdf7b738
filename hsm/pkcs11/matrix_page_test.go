package pkcs11_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
)

var update = flag.Bool("update", false, "write the table of docs/pkcs11.md from this run")

// column is one peer's cells, by the rows' names.
type column struct {
	p     *peertest.Peer
	cells map[string]outcome
}

const (
	page      = "../../docs/pkcs11.md"
	pageBegin = "<!-- From here to the end: written by TestMatrix in hsm/pkcs11 with -update; do not edit. -->\n"
)

// checkPage compares the table of docs/pkcs11.md with this run, or writes it.
func checkPage(t *testing.T, columns []column) {
	t.Helper()
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text, table, found := strings.Cut(string(old), pageBegin)
	if !found {
		t.Fatalf("%s has no line %q", page, pageBegin)
	}
	now := render(columns)
	switch {
	case now == table:
	case *update:
		if err := os.WriteFile(page, []byte(text+pageBegin+now), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		was, is := strings.Split(table, "\n"), strings.Split(now, "\n")
		for i := range max(len(was), len(is)) {
			a, b := "(nothing)", "(nothing)"
			if i < len(was) {
				a = was[i]
			}
			if i < len(is) {
				b = is[i]
			}
			if a != b {
				t.Fatalf("%s differs from this run: make matrix writes it anew. First at\n%s\nand now\n%s", page, a, b)
			}
		}
	}
}

// render writes the table, and below it what each peer says.
func render(columns []column) string {
	var b strings.Builder
	b.WriteString("## The table\n\n| |")
	for _, c := range columns {
		b.WriteString(" " + c.p.Name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	notes := make([][]string, len(columns))
	group := ""
	for _, row := range capabilities {
		if row.group != group {
			group = row.group
			b.WriteString("| **" + group + "** |" + strings.Repeat(" |", len(columns)) + "\n")
		}
		b.WriteString("| " + row.name + " |")
		for i, c := range columns {
			cell := c.cells[row.name]
			word := "no"
			if cell.works {
				word = "yes"
			}
			if cell.message != "" {
				n := slices.Index(notes[i], cell.message)
				if n < 0 {
					notes[i] = append(notes[i], cell.message)
					n = len(notes[i]) - 1
				}
				word += fmt.Sprintf(" (%d)", n+1)
			}
			b.WriteString(" " + word + " |")
		}
		b.WriteString("\n")
	}
	for i, c := range columns {
		fmt.Fprintf(&b, "\n## %s: %s\n", c.p.Name, c.p.Title)
		for n, note := range notes[i] {
			text, hint, _ := strings.Cut(note, "; hint: ")
			fmt.Fprintf(&b, "%d. %s\n", n+1, code(text))
			if hint != "" {
				fmt.Fprintf(&b, "   hint: %s\n", hint)
			}
		}
	}
	return b.String()
}

// code is text between backquotes, in which it may not have any.
func code(s string) string { return "`" + strings.ReplaceAll(s, "`", "'") + "`" }
