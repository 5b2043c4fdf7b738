package main

import (
	"errors"
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

type trustLog struct{ *keyLog }

func (l trustLog) write(leaf trustLeaf) error {
	leaf.Clock, leaf.Time, leaf.Tool, leaf.ToolDigest = l.now()
	return l.add(leaf)
}

// outcome records how the act ended and gives its error back.
func (l trustLog) outcome(leaf trustLeaf, err error) error {
	leaf.Kind = "trust-sign"
	if err != nil {
		leaf.Kind, leaf.Error = "trust-sign-failed", err.Error()
		return errors.Join(err, l.write(leaf))
	}
	return l.write(leaf)
}
