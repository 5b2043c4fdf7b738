package feed

import (
	"testing"
	"time"
)

// SetPatience sets how long a file may take that does not come, for this test.
func SetPatience(t *testing.T, d time.Duration) {
	before := patience
	patience = d
	t.Cleanup(func() { patience = before })
}
