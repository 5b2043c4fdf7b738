package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// A registry that is gone takes the operators' bars with it: a gateway that began anew would admit again whom they barred. So the folders of
// the trust state hold the name of the registry that this gateway has used.

func (e *EnvironmentSettings) registryMark() string { return filepath.Join(e.trust.State, "registry") }

// KnownRegistry is the name of the registry that this gateway has used, "" if it has used none. It fails where that one's file is not there: nothing
// is made in its place.
func (s *Settings) KnownRegistry() (known string, err error) {
	for _, e := range s.environments {
		data, err := input.ReadFile(e.registryMark())
		if errors.Is(err, fs.ErrNotExist) {
			continue // this environment is new here
		}
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(s.registry); errors.Is(err, fs.ErrNotExist) {
			return "", s.otherRegistry("is gone")
		}
		switch one := strings.TrimSpace(string(data)); {
		case one == "":
			return "", s.otherRegistry("cannot be told from another: what this gateway kept of it is empty")
		case known != "" && one != known:
			return "", s.otherRegistry("is not the only one that this gateway has used")
		default:
			known = one
		}
	}
	return known, nil
}

// HoldRegistry holds the registry that was opened against the one known, and keeps its name where it is not kept yet.
func (s *Settings) HoldRegistry(known, id string) error {
	if known != "" && known != id {
		return s.otherRegistry("is another one than this gateway has used")
	}
	for _, e := range s.environments {
		if _, err := os.Stat(e.registryMark()); err == nil {
			continue
		}
		if err := durable.WriteFile(e.registryMark(), []byte(id+"\n"), 0o600); err != nil {
			return fmt.Errorf("trust state: %w", err)
		}
	}
	return nil
}

func (s *Settings) otherRegistry(what string) error {
	var marks []string
	for _, e := range s.environments {
		marks = append(marks, e.registryMark())
	}
	return advice.New(advice.Refused, "put it back, or a copy of it. If it is lost, remove "+strings.Join(marks, " and ")+": devices are met anew, and those that were barred here must be barred again",
		"the registry %s %s: devices that were barred in it would be admitted", show.Text(s.registry), what)
}
