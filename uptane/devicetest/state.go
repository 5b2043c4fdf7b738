package devicetest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Image is what an ECU has installed.
type Image struct {
	Name   string `json:"name"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
}

// result is how an installation ended.
type result struct {
	Success     bool   `json:"success"`
	Code        string `json:"code"`
	Description string `json:"description"`
}

type reportItem struct {
	ECU    string `json:"ecu"`
	Result result `json:"result"`
}

// report is what the next manifests tell of an installation, until one was taken.
type report struct {
	Correlation string       `json:"correlation_id"`
	Result      result       `json:"result"`
	Items       []reportItem `json:"items"`
	Raw         string       `json:"raw_report"`
}

type event struct {
	ID   string `json:"id"`
	Time string `json:"deviceTime"`
	Type struct {
		ID      string `json:"id"`
		Version int    `json:"version"`
	} `json:"eventType"`
	Event map[string]any `json:"event"`
}

// state is what a device remembers when it is switched off. Beside it lie the metadata of both repositories, and an image
// that is being downloaded.
type state struct {
	// Registered is what the server was told of the ECUs.
	Registered string            `json:"registered"`
	Installed  map[string]Image  `json:"installed"`
	Attacks    map[string]string `json:"attacks"`
	Report     *report           `json:"report"`
	Events     []event           `json:"events"`
	Serial     int               `json:"serial"` // of events
	// Done is the correlation id of the assignment that was dealt with last: it is not tried again.
	Done string `json:"done"`
}

func (d *Device) path(name string) string { return filepath.Join(d.c.Dir, name) }

// write replaces a file in one step.
func (d *Device) write(name string, data []byte) error {
	p := d.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(p+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(p+".new", p)
}

// read gives nil for a file that is not there.
func (d *Device) read(name string) ([]byte, error) {
	b, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (d *Device) save() error {
	b, err := json.MarshalIndent(d.s, "", " ")
	if err != nil {
		return err
	}
	return d.write("state.json", b)
}

func (d *Device) load() error {
	b, err := d.read("state.json")
	if err != nil {
		return err
	}
	d.s = state{Installed: map[string]Image{}, Attacks: map[string]string{}}
	if b == nil {
		return nil
	}
	return json.Unmarshal(b, &d.s)
}
