package station

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
)

// TestReadBoards: lists as spreadsheets and people write them, and what is refused of them.
func TestReadBoards(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string // ids and hardware ids, or what the refusal says
	}{
		"plain":                    {"device_id,hardware_id\na,b\nc,d\n", "a/b c/d"},
		"other order and capitals": {"Hardware_ID,DEVICE_ID\nb,a\n", "a/b"},
		"byte order mark, CRLF":    {"\xef\xbb\xbfdevice_id\r\na\r\n", "a/"},
		"semicolons":               {"device_id;hardware_id\na;b\n", "a/b"},
		"a blank row":              {"device_id\na\n\nb\n", "a/ b/"},
		"blanks around":            {"device_id, hardware_id\n a , b \n", "a/b"},
		"no head":                  {"a,b\n", "column \"a\""},
		"no ids":                   {"hardware_id\nb\n", "no column device_id"},
		"a column twice":           {"device_id,device_id\na,b\n", "appears twice"},
		"a row of other length":    {"device_id,lot\na\n", "wrong number of fields"},
		"an open quote":            {"device_id\n\"a\n", "quote"},
		"nothing":                  {"", "no row of column names"},
		"no boards":                {"device_id\n", "lists 0 boards"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "list.csv")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			boards, err := ReadBoards(path)
			if err != nil {
				if advice.KindOf(err) != advice.Usage || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v does not say %q", err, c.want)
				}
				return
			}
			var got []string
			for _, b := range boards {
				got = append(got, b.ID+"/"+b.HardwareID)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v, not %s", got, c.want)
			}
		})
	}
	dir := t.TempDir()
	for _, id := range []string{"dev-1", "dev-2", ".hidden"} {
		if err := os.Mkdir(filepath.Join(dir, id), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "dev-2", boardFile), []byte("hardware_id: other\nlot: \"7\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	boards, err := ReadBoards(dir)
	if err != nil || len(boards) != 2 || boards[0].ID != "dev-1" || boards[1].HardwareID != "other" || boards[1].Lot != "7" || boards[0].Import != filepath.Join(dir, "dev-1", "import") {
		t.Errorf("%+v, %v", boards, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dev-2", boardFile), []byte("hardwareid: other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBoards(dir); advice.KindOf(err) != advice.Usage {
		t.Errorf("an unknown key: %v", err)
	}
}

func FuzzBoards(f *testing.F) {
	f.Add([]byte("device_id,hardware_id,lot,token,import\na,b,c,d,e\n"))
	f.Add([]byte("\xef\xbb\xbfdevice_id;lot\r\na;\"b\"\"\"\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		boards, err := parseBoards("fuzz", b)
		if err == nil {
			for _, board := range boards {
				_ = board.digest()
			}
		}
	})
}

func (l *line) list(more LineConfig) (*Line, error) {
	more.Ends, more.Summary = filepath.Join(l.dir, "ends"), filepath.Join(l.dir, "summary.csv")
	if more.Concurrent == 0 {
		more.Concurrent = 2
	}
	l.conf.Device.KeyStore, l.conf.Device.Token = storeFile, ""
	return NewLine(l.conf, more, With{OpenToken: l.openToken})
}

// TestLineRefusals: a list with a row that is wrong is refused whole, every such row named, before anything is made or asked.
func TestLineRefusals(t *testing.T) {
	l := newLine(t, "station-list")
	l.answer = func(*csr.Request) factory.EnrollAnswer {
		t.Error("the factory was asked")
		return factory.EnrollAnswer{}
	}
	at := func(id, folder string) Board {
		return Board{ID: id, Import: filepath.Join(l.dir, "devices", folder), Where: "line " + id}
	}
	for name, c := range map[string]struct {
		boards []Board
		says   []string
	}{
		"an id twice":              {[]Board{at("a", "1"), at("b", "2"), at("a", "3")}, []string{"its device id is that of line a"}},
		"an id twice but for case": {[]Board{at("a", "1"), at("A", "2")}, []string{"its device id is that of line a"}},
		"a folder twice":           {[]Board{at("a", "1"), at("b", "1")}, []string{"its import folder is that of line a"}},
		"two wrong ids":            {[]Board{at("../x", "1"), at("b", "2"), at("c d", "3")}, []string{"../x", "c d"}},
		"no id":                    {[]Board{at("", "1")}, []string{"device.id is missing"}},
		"a quote in a hardware id": {[]Board{{ID: "a", HardwareID: "x\"", Import: "y", Where: "line 1"}}, []string{"device.hardware_id"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.list(LineConfig{Boards: c.boards})
			for _, says := range c.says {
				if advice.KindOf(err) != advice.Usage || !strings.Contains(err.Error(), says) {
					t.Errorf("%v does not say %q", err, says)
				}
			}
			for _, path := range []string{"devices", "ends", "summary.csv"} {
				if _, err := os.Lstat(filepath.Join(l.dir, path)); err == nil {
					t.Errorf("%s was made", path)
				}
			}
		})
	}
	for _, n := range []int{-1, maxConcurrent + 1} {
		if _, err := l.list(LineConfig{Boards: []Board{at("a", "1")}, Concurrent: n}); advice.KindOf(err) != advice.Usage {
			t.Errorf("%d at once: %v", n, err)
		}
	}
}

// TestEnds: a file of ends that a power cut left with half a line is read up to there and goes on; one of another format is left alone.
func TestEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ends")
	for i, id := range []string{"a", "b"} {
		r := must[*results](t)(openResults(path))
		if len(r.last) != i {
			t.Errorf("%d ends are known, not %d", len(r.last), i)
		}
		if _, err := openResults(path); err == nil {
			t.Error("two runs have the file at once")
		}
		if err := r.add(End{DeviceID: id, Outcome: Enrolled, Serial: "1"}); err != nil {
			t.Fatal(err)
		}
		r.close()
		whole := must[[]byte](t)(os.ReadFile(path))
		if err := os.WriteFile(path, append(whole, `{"device_id":"half","outc`...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := must[*results](t)(openResults(path))
	if _, ok := r.end("half"); ok || len(r.last) != 2 {
		t.Errorf("%+v", r.last)
	}
	r.close()
	if err := os.WriteFile(path, []byte("{\"format\":\"hanaper-boards/2\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openResults(path); advice.KindOf(err) != advice.Refused {
		t.Errorf("another format: %v", err)
	}
	if b := must[[]byte](t)(os.ReadFile(path)); string(b) != "{\"format\":\"hanaper-boards/2\"}\n" {
		t.Errorf("it was changed: %q", b)
	}
	for in, want := range map[string]string{"=1+1": "'=1+1", "@x": "'@x", "-1": "'-1", "plain": "plain", "": ""} {
		if got := cell(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
