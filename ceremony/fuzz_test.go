package ceremony

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// FuzzScript: no script makes the parser panic, and none is accepted whose inputs are not those it pins.
func FuzzScript(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(keysOnly))
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(string, string) ([]byte, error) { return nil, fs.ErrNotExist }
		open := func(string) (fs.FS, error) { return nil, errors.New("no folder") }
		if _, err := parseScript("f", data, read, open); err == nil {
			t.Error("a script without its roster was accepted")
		}
	})
}

// FuzzLeaf: what decodes encodes to the same bytes.
func FuzzLeaf(f *testing.F) {
	kinds := map[string]func() leaf{
		kindBegin: func() leaf { return new(beginLeaf) }, kindToken: func() leaf { return new(tokenLeaf) }, kindStep: func() leaf { return new(stepLeaf) },
		kindKeyIntent: func() leaf { return new(keyIntentLeaf) }, kindKey: func() leaf { return new(keyLeaf) }, kindSerial: func() leaf { return new(serialLeaf) },
		kindSignIntent: func() leaf { return new(signIntentLeaf) }, kindSignature: func() leaf { return new(signatureLeaf) },
		kindArtefact: func() leaf { return new(artefactLeaf) }, kindEnd: func() leaf { return new(endLeaf) }, kindAbort: func() leaf { return new(abortLeaf) },
		kindRemarks: func() leaf { return new(remarksLeaf) },
	}
	for kind, empty := range kinds {
		l := empty()
		l.head().Kind, l.head().At = kind, formatTime(asserted)
		f.Add(encodeLeaf(l))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := headOf(data)
		if err != nil || kinds[h.Kind] == nil {
			return
		}
		l := kinds[h.Kind]()
		if decodeLeaf(data, l, h.Kind) == nil && string(encodeLeaf(l)) != string(data) {
			t.Errorf("%s decodes to something else", data)
		}
	})
}

// FuzzManifest: no manifest makes the parser panic.
func FuzzManifest(f *testing.F) {
	f.Add(encodeManifest(map[string][]byte{"script.yaml": nil, "artefacts/a.pem": []byte("x")}))
	f.Add([]byte(`{"format":2,"files":[]}`))
	f.Add([]byte(`{"format":1,"files":[{"path":"../x","sha256":"","size":0}]}`))
	f.Add([]byte(`{"format":1,"files":[{"path":"b","sha256":"","size":0},{"path":"a","sha256":"","size":0}]}`))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = parseManifest(data) })
}
