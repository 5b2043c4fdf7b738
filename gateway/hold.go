package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// A registry that is gone, or was put back from an older copy, takes the operators' blocks with it: a gateway that went on would admit again whom they
// blocked. So the folders of the trust state hold the name of the registry that this gateway has used, and the number of the last act that it saw there.

func (e *EnvironmentSettings) registryMark() string { return filepath.Join(e.trust.State, "registry") }

// KnownRegistry is what is kept of the registry that this gateway has used; ID is "" if it has used none.
type KnownRegistry struct {
	ID   string
	Last int64
}

// keptRegistry is what lies in the marks.
type keptRegistry struct {
	mu sync.Mutex
	KnownRegistry
}

// KnownRegistry is SeenRegistry, and fails where the registry is a file that is not there any more: nothing is made in its place.
func (s *Settings) KnownRegistry() (KnownRegistry, error) {
	known, err := s.SeenRegistry()
	if err == nil && known.ID != "" && s.registry.Path != "" {
		if _, e := os.Stat(s.registry.Path); errors.Is(e, fs.ErrNotExist) {
			return known, s.otherRegistry("is gone")
		}
	}
	return known, err
}

// SeenRegistry reads the marks.
func (s *Settings) SeenRegistry() (known KnownRegistry, err error) {
	for _, e := range s.environments {
		data, err := input.ReadFile(e.registryMark())
		if errors.Is(err, fs.ErrNotExist) {
			continue // this environment is new here
		}
		if err != nil {
			return known, err
		}
		one, err := parseMark(string(data))
		switch {
		case err != nil:
			return known, s.otherRegistry("cannot be told from another: what this gateway kept of it is " + err.Error())
		case known.ID != "" && one.ID != known.ID:
			return known, s.otherRegistry("is not the only one that this gateway has used")
		}
		known.ID, known.Last = one.ID, max(known.Last, one.Last)
	}
	return known, nil
}

// parseMark reads a mark: the registry's name, and from this release on the number of the last act in a second line.
func parseMark(text string) (k KnownRegistry, err error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	k.ID = lines[0]
	if k.ID == "" {
		return k, errors.New("empty")
	}
	if len(lines) == 2 {
		k.Last, err = strconv.ParseInt(lines[1], 10, 64)
	}
	if err != nil || len(lines) > 2 || k.Last < 0 || len(k.ID) > 64 {
		return k, errors.New("damaged")
	}
	return k, nil
}

// HoldRegistry holds the registry that was opened, with its name and the number of its last act, against the one known, and keeps both from now on.
func (s *Settings) HoldRegistry(known KnownRegistry, id string, last int64) error {
	if known.ID != "" && known.ID != id {
		return s.otherRegistry("is another one than this gateway has used")
	}
	if last < known.Last {
		return s.otherRegistry(fmt.Sprintf("was put back: it knows acts up to number %d, and this gateway has seen number %d", last, known.Last))
	}
	return s.MarkRegistry(KnownRegistry{id, last})
}

// MarkRegistry keeps what is known of the registry, whatever was kept before.
func (s *Settings) MarkRegistry(k KnownRegistry) error {
	for _, e := range s.environments {
		if err := durable.Mkdir(e.trust.State, 0o700); err != nil {
			return fmt.Errorf("trust state: %w", err)
		}
		if err := durable.WriteFile(e.registryMark(), fmt.Appendf(nil, "%s\n%d\n", k.ID, k.Last), 0o600); err != nil {
			return fmt.Errorf("trust state: %w", err)
		}
	}
	s.heldMark = &keptRegistry{KnownRegistry: k}
	return nil
}

// keepActs keeps how far the registry has come.
func (g *Gateway) keepActs() {
	if err := g.settings.KeepActs(g.registry.Figures().LastAct); err != nil {
		g.log.Error("how far the registry has come is not kept: a restart would not notice an older copy of it", "why", err)
	}
}

// KeepActs keeps that the registry held has come to the act with this number.
func (s *Settings) KeepActs(last int64) error {
	held := s.heldMark
	if held == nil {
		return nil
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	if last <= held.Last {
		return nil
	}
	for _, e := range s.environments {
		if err := durable.WriteFile(e.registryMark(), fmt.Appendf(nil, "%s\n%d\n", held.ID, last), 0o600); err != nil {
			return fmt.Errorf("trust state: %w", err)
		}
	}
	held.Last = last
	return nil
}

func (s *Settings) otherRegistry(what string) error {
	var marks []string
	for _, e := range s.environments {
		marks = append(marks, e.registryMark())
	}
	name := s.registry.Path
	if name == "" {
		name = "in the database"
	}
	return advice.New(advice.Refused, "put it back, or a copy of it ('hanaper-gateway registry restore'). If it is lost, remove "+strings.Join(marks, " and ")+": devices are met anew, and those that were blocked here must be blocked again",
		"the registry %s %s: devices that were blocked in it would be admitted", show.Text(name), what)
}
