package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/journal"
)

// keyLog is a log of what keys were used for outside of ceremonies, which nobody signs and which proves nothing.
type keyLog struct {
	*journal.Log
	time, sum string
}

// openKeyLog opens the log at path, or begins it with this origin.
func openKeyLog(c *cli.Context, path, origin string) (*keyLog, error) {
	if path == "" {
		return nil, advice.New(advice.Usage, "add --transcript FILE; it is begun if it is not there", "every use of a key in a token keeps a log, and none is named")
	}
	tool, err := thisTool()
	if err != nil {
		return nil, err
	}
	var log *journal.Log
	if _, err = os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		log, err = journal.Create(path, origin)
	} else if err == nil {
		log, err = journal.Open(path)
	}
	if err != nil {
		return nil, err
	}
	return &keyLog{log, c.String("time"), tool.SHA256}, nil
}

// now is what every entry begins with: this machine's clock, the time that was said, the tool and its digest.
func (l *keyLog) now() (clock, said, tool, digest string) {
	return time.Now().UTC().Format(time.RFC3339), l.time, shell.Version, l.sum
}

func (l *keyLog) add(leaf any) error {
	data, err := json.Marshal(leaf)
	if err != nil {
		return err
	}
	_, err = l.Append(data)
	return err
}
