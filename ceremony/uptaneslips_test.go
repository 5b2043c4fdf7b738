package ceremony

import (
	"strings"
	"testing"
)

// TestUptaneSlips: reviewers read what an Uptane root takes from a role or gives to it, and which roles a key has that is destroyed.
func TestUptaneSlips(t *testing.T) {
	s := second(t)
	read := func(edits ...string) string {
		t.Helper()
		return strings.Join(s.plan(strings.NewReplacer(edits...).Replace(s.secondScript())).Remarks(), "\n")
	}
	remarks := read()
	for _, want := range []string{"REMOVES the key image-root-key (", "from the role root", "ADDS the key image-root-key-2 ("} {
		if !strings.Contains(remarks, want) {
			t.Errorf("nobody is told %q: %s", want, remarks)
		}
	}
	if strings.Contains(remarks, "still has the role") || strings.Count(remarks, "REMOVES the key") != 1 {
		t.Errorf("remarks about what does not change: %s", remarks)
	}
	remarks = read("destroy-key: {key: image-root-key}", "destroy-key: {key: image-targets-key}")
	if !strings.Contains(remarks, "the key still has the role targets of the Uptane image repository, where 1 of 1 keys must sign") {
		t.Errorf("the only targets key is destroyed: %s", remarks)
	}
	// The thief's own key in the place of the officers': seen by name and id.
	remarks = read("targets: {keys: [image-targets-key], threshold: 1}", "targets: {keys: [other-key], threshold: 1}",
		"  - uptane-root:\n", "  - generate-key: {name: other-key, token: roots, algorithm: Ed25519}\n  - uptane-root:\n")
	for _, want := range []string{"REMOVES the key image-targets-key (", "from the role targets", "ADDS the key other-key (", "to the role targets"} {
		if !strings.Contains(remarks, want) {
			t.Errorf("nobody is told %q: %s", want, remarks)
		}
	}
}
