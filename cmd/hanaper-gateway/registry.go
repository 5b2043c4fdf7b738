package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry"
	"github.com/hanaper/hanaper/gateway/registry/postgres"
	"github.com/hanaper/hanaper/gateway/registry/sqlite"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// held is a registry with a name of its own.
type held interface {
	gateway.Registry
	ID() string
	Last(ctx context.Context) (int64, error)
}

// openRegistry opens the registry of a configuration, and makes it if it is not there.
func openRegistry(ctx context.Context, settings *gateway.Settings) (held, error) {
	c := settings.Registry()
	how := registry.Config{Blind: c.Blind}
	if c.Postgres != "" {
		password, err := passwordIn(c.PasswordFile)
		if err != nil {
			return nil, err
		}
		return asHeld(postgres.Open(ctx, postgres.Config{Database: c.Postgres, Password: password, Connections: c.Connections, Config: how}))
	}
	file := sqlite.Config{Path: c.Path, Config: how}
	if list := settings.Environments(); len(list) == 1 {
		file.Environment = list[0].Name()
	}
	return asHeld(sqlite.Open(file))
}

// asHeld makes no interface that is not nil of a registry that is.
func asHeld[T held](r T, err error) (held, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// openExisting is openRegistry for those who only ask: where there is none, none is made.
func openExisting(ctx context.Context, settings *gateway.Settings) (held, error) {
	if path := settings.Registry().Path; path != "" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, advice.New(advice.Usage, "the gateway makes it when it is started first", "registry: %w", err)
		}
	}
	return openRegistry(ctx, settings)
}

// passwordIn reads the password of the database's user; "" where no file is named.
func passwordIn(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", advice.Wrap(advice.Usage, fmt.Errorf("registry.password_file: %w", err), "a file of mode 0600 that holds the password")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", advice.New(advice.Refused, "run: chmod 600 "+path, "registry.password_file %s: mode %04o lets group or others in", show.Text(path), info.Mode().Perm())
	}
	data, err := input.Read(path, 4<<10)
	if err != nil {
		return "", err
	}
	defer clear(data)
	return strings.TrimRight(string(data), "\r\n"), nil
}
