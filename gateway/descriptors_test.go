package gateway

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

// TestDescriptors: what the configuration asks for has to fit; what it leaves open is made to.
func TestDescriptors(t *testing.T) {
	for _, c := range []struct {
		name        string
		connections int
		may         uint64
		want        int
		err         string
	}{
		{"room for all", 0, 1 << 20, defaultConnections, ""},
		{"without an end", 0, 1<<64 - 1, defaultConnections, ""},
		{"fewer fit", 0, 4096, 4096 - defaultUpstream - keptBack, ""},
		{"none fit", 0, 1024, 0, "LimitNOFILE"},
		{"asked for, and there", 1000, 1000 + defaultUpstream + keptBack, 1000, ""},
		{"asked for, one too few", 1000, 1000 + defaultUpstream + keptBack - 1, 0, "too few for limits.connections 1000"},
	} {
		s := &Settings{limits: LimitsConfig{Connections: c.connections}}
		if err := s.checkLimits(); err != nil {
			t.Fatal(err)
		}
		err := s.descriptors(c.may)
		switch {
		case c.err == "" && (err != nil || s.limits.Connections != c.want):
			t.Errorf("%s: %d, %v", c.name, s.limits.Connections, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error()+hint(err), c.err)):
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func hint(err error) string { return advice.Hint(err) }
