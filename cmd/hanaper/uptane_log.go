package main

import (
	"errors"
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

const uptaneLogOrigin = "hanaper.invalid/uptane"

type uptaneLog struct{ *keyLog }

func (l uptaneLog) write(leaf uptaneLeaf) error {
	leaf.Clock, leaf.Time, leaf.Tool, leaf.ToolDigest = l.now()
	return l.add(leaf)
}

// outcome records how an act ended and gives its error back.
func (l uptaneLog) outcome(leaf uptaneLeaf, err error) error {
	if err != nil {
		leaf.Kind, leaf.Error = leaf.Kind+"-failed", err.Error()
		return errors.Join(err, l.write(leaf))
	}
	return l.write(leaf)
}
