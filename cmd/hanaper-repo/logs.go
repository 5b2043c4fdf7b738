package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// logConfig names a factory's issuance log whose checkpoints are published.
type logConfig struct {
	Key          string   `yaml:"key"`
	Witnesses    []string `yaml:"witnesses"`
	Cosignatures int      `yaml:"cosignatures"`
	Kept         string   `yaml:"kept"`
	Folder       string   `yaml:"folder"`
	URL          string   `yaml:"url"`
	CA           string   `yaml:"ca"`
	Certificate  string   `yaml:"certificate"`
	KeyFile      string   `yaml:"key_file"`
}

func (l logConfig) policy() (*logbook.Policy, error) {
	return logbook.NewPolicy(logbook.PolicyConfig{Key: l.Key, Witnesses: l.Witnesses, Cosignatures: l.Cosignatures})
}

func (l logConfig) check() error {
	if (l.Folder == "") == (l.URL == "") || l.URL == "" && l.CA+l.Certificate+l.KeyFile != "" || (l.Certificate == "") != (l.KeyFile == "") {
		return advice.New(advice.Usage, "", "give folder or url; ca, certificate and key_file go with url")
	}
	_, err := l.policy()
	return err
}

// logSource is where a log is read, and what was last accepted of it.
type logSource struct {
	name   string
	policy *logbook.Policy
	files  logbook.Files
	kept   *logbook.Kept
	// seed is put into the kept file's place where there is none: what is published already.
	seeded bool
	seed   func() []byte
}

func newLogSources(o *office) ([]*logSource, error) {
	var list []*logSource
	for _, l := range o.config.Logs {
		policy, err := l.policy()
		if err != nil {
			return nil, err
		}
		s := &logSource{name: "log " + policy.Origin(), policy: policy}
		kept := l.Kept
		if kept == "" {
			id := sha256.Sum256([]byte(policy.Origin()))
			kept = o.config.HighWater + ".log-" + hex.EncodeToString(id[:8])
		}
		s.kept = logbook.NewKept(o.config.path(kept), policy, nil)
		if l.Folder != "" {
			s.files = logbook.Folder(o.config.path(l.Folder))
		} else {
			client, err := newClient(o.config, crlConfig{URL: l.URL, CA: l.CA, Certificate: l.Certificate, Key: l.KeyFile})
			if err != nil {
				return nil, err
			}
			s.files = remoteLog{client, strings.TrimSuffix(l.URL, "/") + "/"}
		}
		s.seed = func() []byte {
			if o.View() == nil {
				return nil
			}
			for _, p := range o.View().Logs() {
				if p.Origin == policy.Origin() {
					return p.Note
				}
			}
			return nil
		}
		list = append(list, s)
	}
	return list, nil
}

// remoteLog reads a log's files over HTTPS.
type remoteLog struct {
	client *http.Client
	base   string
}

// Read implements logbook.Files.
func (r remoteLog) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fs.ErrNotExist
	default:
		return nil, fmt.Errorf("the server answers %s", show.Text(res.Status))
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is longer than it can be", show.Text(path))
	}
	return data, err
}

// take reads the log's checkpoint, holds it against the last one that was published, and offers it. What does not follow is refused, and
// the evidence kept.
func (s *logSource) take(ctx context.Context, offer func([]byte) error) error {
	note, err := s.files.Read(ctx, logbook.CheckpointPath, journal.MaxCheckpoint)
	if err != nil {
		return err
	}
	last, have, err := s.kept.Last()
	if err != nil {
		return err
	}
	// The kept file may be lost, or be older than what is published.
	if data := s.seed(); data != nil && !s.seeded {
		if last, err = s.accept(ctx, last, have, data, "what is published"); err != nil {
			return err
		}
		have, s.seeded = true, true
	}
	c := last
	if !have || string(last.Note) != string(note) {
		if c, err = s.accept(ctx, last, have, note, "the log"); err != nil {
			return err
		}
	}
	if c.Size == 0 {
		return nil
	}
	return offer(c.Note)
}

// accept keeps a checkpoint that follows the last one. What is published may be older than what is kept; the log may not.
func (s *logSource) accept(ctx context.Context, last logbook.Checkpoint, have bool, note []byte, source string) (logbook.Checkpoint, error) {
	o := logbook.Offer{Note: note, From: last.Size, Source: source}
	c, err := s.policy.VerifySigned(note)
	if err == nil && source != "the log" && have && c.Size <= last.Size {
		return last, nil
	}
	if err == nil && have && c.Size > last.Size {
		if o.Proof, err = logbook.Consistency(ctx, s.files, last.Size, c.Size); err != nil {
			return c, err
		}
	}
	return s.kept.Accept(ctx, o)
}
