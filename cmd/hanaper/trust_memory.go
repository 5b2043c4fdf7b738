package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/trust"
)

// trustMemory is what an officer's machine remembers of an environment's trust: the part in force that was last worked after, and what was last signed.
// Everything in an older part verifies; somebody who brings it as the one in force would have the officers see a change that is none, and sign
// what they took back. The file lies in the machine's state (--state); who can change it can make the machine forget.
type trustMemory struct {
	// Format is 1.
	Format      int    `json:"format"`
	Environment string `json:"environment"`
	Root        string `json:"root"`
	// Previous is the highest version seen in force, Signed the highest one signed here; each with the SHA-256 of what its signatures are over.
	Previous trustMark `json:"previous"`
	Signed   trustMark `json:"signed"`
}

type trustMark struct {
	Version int64  `json:"version"`
	Digest  string `json:"sha256"`
}

func markOf(rep *trust.Repository) trustMark {
	d := rep.Digest()
	return trustMark{rep.TargetsVersion(), hex.EncodeToString(d[:])}
}

func memoryPath(state, environment string) string {
	return filepath.Join(state, "trust-"+environment+".json")
}

// recallTrust reads what is remembered of an environment; false if that is nothing.
func recallTrust(state, environment string) (m trustMemory, known bool, err error) {
	path := memoryPath(state, environment)
	data, err := input.Read(path, 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return trustMemory{}, false, nil
	}
	if err != nil {
		return m, false, err
	}
	if err := strict.JSON(path, data, &m); err != nil {
		return m, false, err
	}
	if m.Format != 1 || m.Environment != environment {
		return m, false, advice.New(advice.Usage, "use the release that wrote it, or a newer one", "%s is of format %d, or of another environment", show.Text(path), m.Format)
	}
	return m, true, nil
}

// keep puts m into the place of what was recalled and weighed before people were asked; where another process has remembered something since, it changes nothing.
func (m trustMemory) keep(state string, was trustMemory) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := durable.Mkdir(state, 0o700); err != nil {
		return err
	}
	lock, err := durable.LockFolder(state, true)
	if err != nil {
		return err
	}
	defer lock.Close()
	if now, _, err := recallTrust(state, m.Environment); err != nil {
		return err
	} else if now != was {
		return advice.New(advice.Refused, "sign again: the draft is weighed anew", "this machine remembers something else of environment %s since you were shown the draft", show.Text(m.Environment))
	}
	return durable.WriteFile(memoryPath(state, m.Environment), append(data, '\n'), 0o600)
}

// weigh holds a draft to what is remembered: what cannot be right is refused, what an officer has to know is said.
func (m trustMemory) weigh(known bool, pin trust.Pin, d *trust.Draft) (findings []string, err error) {
	before, next := markOf(d.Previous()), markOf(d.Next())
	if !known {
		return []string{fmt.Sprintf("this machine remembers nothing of environment %s: make sure that version %d is the one in force", d.Previous().Environment(), before.Version)}, nil
	}
	const older = "somebody shows you an older part, or another one: fetch what is in force from its publisher"
	switch {
	case m.Root != pin.String():
		return nil, advice.New(advice.Refused, "check which environment's root you keep", "this machine remembers root %s of environment %s, and not %s", show.Text(m.Root), show.Text(m.Environment), pin)
	case before.Version < m.Previous.Version:
		return nil, advice.New(advice.Refused, older, "the draft follows version %d, and version %d was in force here", before.Version, m.Previous.Version)
	case before.Version == m.Previous.Version && before.Digest != m.Previous.Digest:
		return nil, advice.New(advice.Refused, older, "the draft follows another version %d than the one that was in force here", before.Version)
	case next.Version < m.Signed.Version:
		return nil, advice.New(advice.Refused, "change the draft once more: it gets a version above", "version %d was signed here, and the draft is version %d", m.Signed.Version, next.Version)
	case next.Version == m.Signed.Version && next.Digest != m.Signed.Digest:
		return nil, advice.New(advice.Refused, "one version has one content: change the draft once more, so that it gets a version above", "another draft of version %d was signed here", next.Version)
	case next == m.Signed:
		return nil, nil
	case m.Signed.Version > before.Version:
		findings = append(findings, fmt.Sprintf("version %d was signed here, and is not in force before this draft: ask what became of it", m.Signed.Version))
	case m.Signed.Version == before.Version && m.Signed.Digest != before.Digest:
		findings = append(findings, fmt.Sprintf("the version %d in force is not the one that was signed here", before.Version))
	}
	return findings, nil
}
