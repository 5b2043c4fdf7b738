package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry/sqlite"
)

// held is a registry with a name of its own.
type held interface {
	gateway.Registry
	ID() string
	Last(ctx context.Context) (int64, error)
}

// openRegistry opens the registry of a configuration, and makes it if it is not there.
func openRegistry(settings *gateway.Settings) (held, error) {
	c := sqlite.Config{Path: settings.Registry()}
	if list := settings.Environments(); len(list) == 1 {
		c.Environment = list[0].Name()
	}
	return sqlite.Open(c)
}

// openExisting is openRegistry for those who only ask: where there is none, none is made.
func openExisting(settings *gateway.Settings) (held, error) {
	if _, err := os.Stat(settings.Registry()); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return openRegistry(settings)
}
