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

// uptaneLeaf is an entry of the log of `hanaper uptane`, which nobody signs: the intent before a key is used, then the outcome.
type uptaneLeaf struct {
	// Kind is "uptane-sign-intent", "uptane-sign" or "uptane-sign-failed", and the same with key-check and key-generate.
	Kind string `json:"kind"`
	// Clock is the machine's, Time what was asserted with --time.
	Clock string `json:"machine_clock"`
	Time  string `json:"asserted_time,omitempty"`
	Tool  string `json:"tool"`
	// ToolDigest is the SHA-256 of the program's file.
	ToolDigest string `json:"tool_sha256"`
	// Title and Digest name the document and the bytes that were signed; Request and Response are SHA-256 of the files.
	Title    string `json:"title,omitempty"`
	Digest   string `json:"digest,omitempty"`
	Request  string `json:"request_sha256,omitempty"`
	Response string `json:"response_sha256,omitempty"`
	// Root is the SHA-256 of the signed bytes of the root that the officer keeps; Unverified is what did not verify under it.
	Root       string   `json:"trusted_root_sha256,omitempty"`
	Unverified []string `json:"unverified,omitempty"`
	Findings   []string `json:"findings,omitempty"`
	Scripted   bool     `json:"scripted,omitempty"`
	Token      string   `json:"token,omitempty"`
	Keys       []string `json:"keyids"`
	Error      string   `json:"error,omitempty"`
}

type uptaneLog struct {
	*journal.Log
	time string
	tool string
	sum  string
}

// openUptaneLog opens a log or begins one.
func openUptaneLog(c *cli.Context, path string) (*uptaneLog, error) {
	if path == "" {
		return nil, advice.New(advice.Usage, "add --transcript FILE; it is begun if it is not there", "every use of a key in a token keeps a log, and none is named")
	}
	tool, err := thisTool()
	if err != nil {
		return nil, err
	}
	var log *journal.Log
	if _, err = os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		log, err = journal.Create(path, "hanaper.invalid/uptane")
	} else if err == nil {
		log, err = journal.Open(path)
	}
	if err != nil {
		return nil, err
	}
	return &uptaneLog{Log: log, time: c.String("time"), tool: shell.Version, sum: tool.SHA256}, nil
}

func (l *uptaneLog) write(leaf uptaneLeaf) error {
	leaf.Clock, leaf.Time, leaf.Tool, leaf.ToolDigest = time.Now().UTC().Format(time.RFC3339), l.time, l.tool, l.sum
	data, err := json.Marshal(leaf)
	if err != nil {
		return err
	}
	_, err = l.Append(data)
	return err
}

// outcome records how an act ended and gives its error back.
func (l *uptaneLog) outcome(leaf uptaneLeaf, err error) error {
	if err != nil {
		leaf.Kind, leaf.Error = leaf.Kind+"-failed", err.Error()
		return errors.Join(err, l.write(leaf))
	}
	return l.write(leaf)
}
