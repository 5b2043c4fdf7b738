package gateway

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReasonsAreDocumented: docs/spec/admission.md has a row for each reason, in the code's words, and no other.
func TestReasonsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/spec/admission.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| code | meaning |\n|---|---|\n")
	var want strings.Builder
	for _, r := range Reasons() {
		fmt.Fprintf(&want, "| `%s` | %s |\n", string(r), r.Text())
	}
	if table != want.String() {
		t.Errorf("the table of reasons should be:\n%s", want.String())
	}
	if len(Reasons()) != len(reasonText) {
		t.Errorf("%d reasons, %d texts", len(Reasons()), len(reasonText))
	}
}
