package station

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Outcome is how a board's run ended.
type Outcome string

const (
	// Enrolled boards are done: certificate, folder and all was read back.
	Enrolled Outcome = "enrolled"
	// Refused boards were refused by policy, here or at hanaperd; the same again is refused again.
	Refused Outcome = "refused"
	// Failed boards had trouble that may pass.
	Failed Outcome = "failed"
	// NotBegun boards have no end yet.
	NotBegun Outcome = "not begun"
)

// End is the durable end of one board's run.
type End struct {
	DeviceID string  `json:"device_id"`
	Row      string  `json:"row"`
	Outcome  Outcome `json:"outcome"`
	Serial   string  `json:"serial,omitempty"`
	NotAfter string  `json:"not_after,omitempty"`
	Import   string  `json:"import,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Hint     string  `json:"hint,omitempty"`
	At       string  `json:"at"`
}

// resultsFormat is the first line of a file of ends (docs/spec/spool.md, "Ends").
const resultsFormat = `{"format":"hanaper-boards/1"}`

// maxResults bounds a file of ends, in bytes.
const maxResults = 256 << 20

// results is a file of ends, one JSON object a line, each synced before the next board's end is believed. It decides only what is not done
// again: an attacker who can change it can have boards left out of a run, which the summary counts, or done again, which changes nothing.
type results struct {
	path  string
	lock  io.Closer
	mutex sync.Mutex
	f     *os.File
	last  map[string]End // by device id
}

// openResults opens or begins the file; one process at a time has it.
func openResults(path string) (r *results, err error) {
	if err := durable.Mkdir(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	r = &results{path: path, last: map[string]End{}}
	lock, err := durable.Lock(path + ".lock")
	if err != nil {
		return nil, advice.New(advice.Failed, "wait for the other run", "%s: %w", show.Text(path), err)
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	r.lock = lock
	b, err := input.Read(path, maxResults)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.Create(path, []byte(resultsFormat+"\n"), 0o644); err != nil {
			return nil, err
		}
		b, err = []byte(resultsFormat+"\n"), nil
	}
	if err != nil {
		return nil, err
	}
	if err := r.parse(b); err != nil {
		return nil, err
	}
	if r.f, err = input.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	// What a power cut left of a line is ended, and was not taken above.
	if len(b) > 0 && b[len(b)-1] != '\n' {
		if _, err := r.f.WriteString("\n"); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *results) parse(b []byte) error {
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	if string(first) != resultsFormat {
		return advice.New(advice.Refused, "name another file, or use the release that wrote it", "%s is no list of ends of this format", show.Text(r.path))
	}
	for len(rest) > 0 {
		var line []byte
		var whole bool
		line, rest, whole = bytes.Cut(rest, []byte("\n"))
		var e End
		if err := strict.JSON("end", line, &e); err != nil || e.DeviceID == "" || !whole {
			// A line that was cut short tells nothing: its board is done again, which changes nothing if it was done.
			continue
		}
		r.last[e.DeviceID] = e
	}
	return nil
}

// add makes a board's end durable.
func (r *results) add(e End) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if _, err = r.f.Write(append(b, '\n')); err == nil {
		err = r.f.Sync()
	}
	if err == nil {
		r.last[e.DeviceID] = e
	}
	return err
}

func (r *results) end(id string) (End, bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	e, ok := r.last[id]
	return e, ok
}

func (r *results) close() {
	_ = r.f.Close()
	_ = r.lock.Close()
}

// endOf is the end of a board whose run gave r and err.
func endOf(b Board, r *Result, err error, now time.Time) End {
	e := End{DeviceID: b.ID, Row: b.digest(), Outcome: Enrolled, At: now.UTC().Format(time.RFC3339)}
	if err == nil {
		e.Serial, e.NotAfter, e.Import = r.Serial, r.NotAfter.Format(time.RFC3339), r.Import
		return e
	}
	e.Outcome, e.Reason, e.Hint = Failed, show.Line(err.Error()), show.Line(advice.Hint(err))
	if kind := advice.KindOf(err); kind == advice.Refused || kind == advice.Unverified || kind == advice.Usage {
		e.Outcome = Refused
	}
	return e
}

// writeSummary puts the ends of all boards into a CSV file, in the list's order.
func writeSummary(path string, boards []Board, r *results) error {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write([]string{"device_id", "outcome", "serial", "not_after", "import", "reason", "hint", "at"})
	for _, board := range boards {
		e, ok := r.end(board.ID)
		if !ok || e.Row != board.digest() {
			e = End{DeviceID: board.ID, Outcome: NotBegun}
		}
		row := []string{e.DeviceID, string(e.Outcome), e.Serial, e.NotAfter, e.Import, e.Reason, e.Hint, e.At}
		for i := range row {
			row[i] = cell(row[i])
		}
		_ = w.Write(row)
	}
	w.Flush()
	return durable.WriteFile(path, b.Bytes(), 0o644)
}

// cell keeps a spreadsheet from taking foreign text for a formula.
func cell(s string) string {
	if s != "" && strings.IndexByte("=+-@\t\r", s[0]) >= 0 {
		return "'" + s
	}
	return s
}
