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

// trustLeaf is an entry of the log of 'hanaper trust sign', which nobody signs: the intent before a key is used, then the outcome.
type trustLeaf struct {
	// Kind is "trust-sign-intent", "trust-sign" or "trust-sign-failed".
	Kind string `json:"kind"`
	// Clock is the machine's, Time what was asserted with --time.
	Clock string `json:"machine_clock"`
	Time  string `json:"asserted_time,omitempty"`
	Tool  string `json:"tool"`
	// ToolDigest is the SHA-256 of the program's file.
	ToolDigest  string `json:"tool_sha256"`
	Environment string `json:"environment"`
	// Root is the SHA-256 of the first root that the officer keeps.
	Root string `json:"root"`
	// Previous and Version are of the part in force and of the draft; Digest is the SHA-256 of what is signed.
	Previous int64  `json:"previous_version"`
	Version  int64  `json:"version"`
	Digest   string `json:"digest"`
	// Changes are what the officer was shown, Findings what the machine remembers otherwise.
	Changes  []string `json:"changes"`
	Findings []string `json:"findings,omitempty"`
	Scripted bool     `json:"scripted,omitempty"`
	Keys     []string `json:"keyids"`
	Error    string   `json:"error,omitempty"`
}

type trustLog struct {
	*journal.Log
	time, sum string
}

// openTrustLog opens a log or begins one.
func openTrustLog(c *cli.Context, path string) (*trustLog, error) {
	if path == "" {
		return nil, advice.New(advice.Usage, "add --transcript FILE; it is begun if it is not there", "every use of a key keeps a log, and none is named")
	}
	tool, err := thisTool()
	if err != nil {
		return nil, err
	}
	var log *journal.Log
	if _, err = os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		log, err = journal.Create(path, "hanaper.invalid/trust")
	} else if err == nil {
		log, err = journal.Open(path)
	}
	if err != nil {
		return nil, err
	}
	return &trustLog{log, c.String("time"), tool.SHA256}, nil
}

func (l *trustLog) write(leaf trustLeaf) error {
	leaf.Clock, leaf.Time, leaf.Tool, leaf.ToolDigest = time.Now().UTC().Format(time.RFC3339), l.time, shell.Version, l.sum
	data, err := json.Marshal(leaf)
	if err != nil {
		return err
	}
	_, err = l.Append(data)
	return err
}

// outcome records how the act ended and gives its error back.
func (l *trustLog) outcome(leaf trustLeaf, err error) error {
	leaf.Kind = "trust-sign"
	if err != nil {
		leaf.Kind, leaf.Error = "trust-sign-failed", err.Error()
		return errors.Join(err, l.write(leaf))
	}
	return l.write(leaf)
}
