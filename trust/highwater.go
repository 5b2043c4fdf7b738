package trust

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// highWater is what a publisher remembers of its last publication, in a file outside of the published folder. The folder
// alone cannot show that it is an older copy: everything in it verifies, and whoever put it back would have the revocations
// since then forgotten, and signed anew. Somebody who can change this file as well can bring an old copy back.
type highWater struct {
	Format      int    `json:"format"`
	Environment string `json:"environment"`
	// Timestamp is the version of the last timestamp.json, SHA256 that of its bytes; it rises with every publication.
	Timestamp int64  `json:"timestamp"`
	SHA256    string `json:"sha256"`
}

// markedName is a file in the published folder which says that there is a mark elsewhere: a folder with it and without a mark has lost the mark, and
// is not believed. One that a release without marks published has none.
const markedName = ".marked"

// maxHighWater bounds the file in bytes.
const maxHighWater = 4 << 10

// checkHighWater refuses a file within the folder: it would be put back with it.
func checkHighWater(dir, file string) error {
	if file == "" {
		return nil
	}
	inside, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	at, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if at == inside || strings.HasPrefix(at, inside+string(filepath.Separator)) {
		return usage("name a file that is not copied together with the folder", "the high-water mark %s lies in the published folder", show.Text(file))
	}
	return nil
}

// readMark reads the mark of an environment; nil if there is none.
func readMark(file, environment string) (*highWater, error) {
	data, err := input.Read(file, maxHighWater)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m highWater
	if err := strict.JSON(file, data, &m); err != nil {
		return nil, err
	}
	if m.Format != 1 {
		return nil, usage("use the release that wrote it, or a newer one", "%s has format %d, not 1", show.Text(file), m.Format)
	}
	if m.Environment != environment {
		return nil, refuse(ErrEnvironment, file, "%s, not %s", m.Environment, environment)
	}
	return &m, nil
}

// hold compares what is published with the mark, and raises the mark.
func (p *Publisher) hold() error {
	if p.config.HighWater == "" {
		return nil
	}
	const hint = "put the newest copy back with 'hanaper-repo restore': every gateway and mirror has one, and all of it is public"
	m, err := readMark(p.config.HighWater, p.config.Environment)
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(p.config.Dir, markedName))
	marked := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m == nil && marked {
		return refuseHint(ErrRollback, "'hanaper-repo restore' takes the newest copy, which may be this folder, and holds it against what gateways hold", p.config.Dir,
			"it may be an older copy: %s, which knows what was published last, is lost", p.config.HighWater)
	}
	if m == nil {
		return p.mark(p.view)
	}
	if !marked && p.view != nil {
		if err := writeMarked(p.config.Dir); err != nil {
			return err
		}
	}
	back := func(format string, args ...any) error {
		return refuseHint(ErrRollback, hint, p.config.Dir, "%s; timestamp version %d was published from here (%s)", fmt.Sprintf(format, args...), m.Timestamp, p.config.HighWater)
	}
	switch {
	case p.view == nil:
		return back("it is empty")
	case p.view.versions.Timestamp < m.Timestamp:
		return back("it holds timestamp version %d", p.view.versions.Timestamp)
	case p.view.versions.Timestamp == m.Timestamp && hexOf(p.view) != m.SHA256:
		return back("it holds another timestamp of the same version")
	case p.view.versions.Timestamp == m.Timestamp:
		return nil
	}
	return p.mark(p.view)
}

func hexOf(v *View) string {
	d := digestOf(v.raw.timestamp)
	return hex.EncodeToString(d[:])
}

// mark remembers a publication. The caller has made it durable, in its place or as one that the next start finishes.
func (p *Publisher) mark(v *View) error {
	if p.config.HighWater == "" || v == nil {
		return nil
	}
	if err := writeMark(p.config.HighWater, p.config.Environment, v); err != nil {
		return err
	}
	return writeMarked(p.config.Dir)
}

func writeMarked(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, markedName)); err == nil {
		return nil
	}
	return durable.WriteFile(filepath.Join(dir, markedName), nil, 0o644)
}

func writeMark(file, environment string, v *View) error {
	data, err := json.Marshal(highWater{1, environment, v.versions.Timestamp, hexOf(v)})
	if err != nil {
		return err
	}
	if err := durable.Mkdir(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(file, append(data, '\n'), 0o600)
}
