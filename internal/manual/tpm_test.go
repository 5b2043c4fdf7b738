package manual

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
)

// TestTPM runs the commands of the runbook for TPMs, on one in software.
func TestTPM(t *testing.T) {
	c := tpmtest.New(t)
	parts := map[string]string{}
	readParts(t, "tpm", parts)
	for name, body := range parts {
		parts[name] = strings.ReplaceAll(body, "/dev/tpmrm0", c.Socket)
	}
	parts["manufacturer"] = "cp " + c.Roots + " ek-roots.pem\n"
	seen := perform(t, parts, []string{"tpm 1", "tpm 2", "tpm 3", "manufacturer", "tpm 4"}, "")
	for _, want := range shownBy(t, "tpm") {
		if !strings.Contains(seen, squeezed(want)) {
			t.Errorf("the runbook says that you will see %q; it was not to be seen", want)
		}
	}
}
