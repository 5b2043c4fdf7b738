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

// A registry that is gone takes the operators' bars with it: a gateway that began anew would admit again whom they barred. So the folder of
// the trust state holds the name of the registry that this gateway has used.

func (s *Settings) registryMark() string { return filepath.Join(s.trust.State, "registry") }

// KnownRegistry is the name of the registry that this gateway has used, "" if it has used none. It fails where that one's file is not there: nothing
// is made in its place.
func (s *Settings) KnownRegistry() (string, error) {
	data, err := input.ReadFile(s.registryMark())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(s.registry); errors.Is(err, fs.ErrNotExist) {
		return "", s.otherRegistry("is gone")
	}
	known := strings.TrimSpace(string(data))
	if known == "" {
		return "", s.otherRegistry("cannot be told from another: what this gateway kept of it is empty")
	}
	return known, nil
}

// HoldRegistry holds the registry that was opened against the one known, and keeps its name where none is.
func (s *Settings) HoldRegistry(known, id string) error {
	switch known {
	case id:
		return nil
	case "":
		if err := durable.WriteFile(s.registryMark(), []byte(id+"\n"), 0o600); err != nil {
			return fmt.Errorf("trust state: %w", err)
		}
		return nil
	}
	return s.otherRegistry("is another one than this gateway has used")
}

func (s *Settings) otherRegistry(what string) error {
	return advice.New(advice.Refused, "put it back, or a copy of it. If it is lost, remove "+s.registryMark()+": devices are met anew, and those that were barred here must be barred again",
		"the registry %s %s: devices that were barred in it would be admitted", show.Text(s.registry), what)
}
