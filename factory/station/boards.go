package station

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Board is one row of a list of boards: what differs from one device of a line to the next. Empty fields are the configuration's.
// In Token and Import, and in the configuration's, {id} stands for the device's id.
type Board struct {
	ID         string `yaml:"-"`
	HardwareID string `yaml:"hardware_id"`
	Lot        string `yaml:"lot"`
	Token      string `yaml:"token"`
	Import     string `yaml:"import"`
	// Where says for messages where the board stands: a line of the list, or a folder.
	Where string `yaml:"-"`
}

// Bounds of a list: its bytes and its boards.
const (
	maxList   = 16 << 20
	maxBoards = 100_000
)

// boardFile is what a board's folder may hold for hanaper-station.
const boardFile = "board.yaml"

// ReadBoards reads a list of boards: a CSV file whose first row names the columns (device_id, and any of hardware_id, lot, token, import),
// or a folder with one folder a board, which has the device's id as its name and may hold a board.yaml with those same fields; such
// a board's import folder is "import" in it. Relative import folders begin beside the list.
//
// An attacker who can change the list decides which ids the boards get, as he who scans them does.
func ReadBoards(path string) ([]Board, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a CSV file, or a folder with one folder a board")
	}
	var boards []Board
	if st.IsDir() {
		boards, err = readFolders(path)
	} else {
		var b []byte
		if b, err = input.Read(path, maxList); err != nil {
			return nil, advice.Wrap(advice.Usage, err, "")
		}
		boards, err = parseBoards(path, b)
	}
	if err != nil {
		return nil, err
	}
	if len(boards) == 0 || len(boards) > maxBoards {
		return nil, advice.New(advice.Usage, fmt.Sprintf("1 to %d", maxBoards), "%s lists %d boards", show.Text(path), len(boards))
	}
	return boards, nil
}

// parseBoards reads CSV (RFC 4180), with the byte order mark and the semicolons that spreadsheets write in some countries.
func parseBoards(path string, b []byte) ([]Board, error) {
	bad := func(format string, args ...any) error {
		return advice.New(advice.Usage, "the first row names the columns: device_id,hardware_id,lot,token,import", "%s: %w", show.Text(path), fmt.Errorf(format, args...))
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	r := csv.NewReader(bytes.NewReader(b))
	head, _, _ := bytes.Cut(b, []byte("\n"))
	if bytes.ContainsRune(head, ';') && !bytes.ContainsRune(head, ',') {
		r.Comma = ';'
	}
	names, err := r.Read()
	if err != nil {
		return nil, bad("no row of column names: %v", err)
	}
	columns := map[string]int{}
	for i, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := columns[name]; twice || !strings.Contains(" device_id hardware_id lot token import ", " "+name+" ") {
			return nil, bad("column %.40q is unknown, or appears twice", name)
		}
		columns[name] = i
	}
	if _, ok := columns["device_id"]; !ok {
		return nil, bad("there is no column device_id")
	}
	var boards []Board
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return boards, nil
		}
		if err != nil {
			return nil, bad("%v", err)
		}
		at := func(name string) string {
			if i, ok := columns[name]; ok {
				return strings.TrimSpace(row[i])
			}
			return ""
		}
		line, _ := r.FieldPos(0)
		board := Board{ID: at("device_id"), HardwareID: at("hardware_id"), Lot: at("lot"), Token: at("token"), Import: at("import"), Where: fmt.Sprintf("line %d", line)}
		if board.Import != "" && !filepath.IsAbs(board.Import) {
			board.Import = filepath.Join(filepath.Dir(path), board.Import)
		}
		boards = append(boards, board)
	}
}

func readFolders(dir string) ([]Board, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "")
	}
	var boards []Board
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		at := filepath.Join(dir, e.Name())
		b := Board{ID: e.Name(), Import: "import", Where: "folder " + show.Text(e.Name())}
		text, err := input.Read(filepath.Join(at, boardFile), strict.MaxSize)
		if err == nil {
			err = strict.Unmarshal(filepath.Join(at, boardFile), text, &b)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, advice.Wrap(advice.Usage, err, "")
		}
		if !filepath.IsAbs(b.Import) {
			b.Import = filepath.Join(at, b.Import)
		}
		boards = append(boards, b)
	}
	return boards, nil
}

// digest tells a row from another one with the same id.
func (b Board) digest() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{b.ID, b.HardwareID, b.Lot, b.Token, b.Import}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// on is the configuration for a board.
func (c *Config) on(b Board) *Config {
	d := *c
	d.Device.ID = b.ID
	for _, f := range []struct {
		to   *string
		have string
	}{{&d.Device.HardwareID, b.HardwareID}, {&d.Device.Lot, b.Lot}, {&d.Device.Token, b.Token}, {&d.Import, b.Import}} {
		if f.have != "" {
			*f.to = f.have
		}
	}
	return &d
}

// fill puts the device's id where the configuration has {id} for it.
func (c *Config) fill() {
	c.Device.Token = strings.ReplaceAll(c.Device.Token, "{id}", c.Device.ID)
	c.Import = strings.ReplaceAll(c.Import, "{id}", c.Device.ID)
}
