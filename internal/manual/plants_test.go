package manual

import (
	"fmt"
	"strings"
	"testing"
)

// TestPlants performs docs/runbooks/plants.md as it stands: a plant is added and closed, a second environment begins, and nothing of the one passes in
// the other.
func TestPlants(t *testing.T) {
	t.Parallel()
	parts := map[string]string{}
	readParts(t, "plants", parts)
	var order []string
	for i := range len(parts) {
		name := fmt.Sprint("plants ", i+1)
		if parts[name] == "" {
			t.Fatalf("section %d has no commands", i+1)
		}
		order = append(order, name)
	}
	_, hold, ok := strings.Cut(runbook(t, "years"), "\nhold() {")
	hold, _, closed := strings.Cut(hold, "\n}\n")
	if !ok || !closed {
		t.Fatal("years.md has no hold()")
	}
	parts[order[0]] = "hold() {" + hold + "\n}\n" + parts[order[0]]
	seen := perform(t, parts, order, "")
	for _, want := range shownBy(t, "plants") {
		if !strings.Contains(seen, squeezed(want)) {
			t.Errorf("plants.md says that you will see %q; it was not to be seen", want)
		}
	}
}
