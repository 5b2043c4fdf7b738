package published_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/image/published"
	"github.com/hanaper/hanaper/internal/advice"
)

const example = "testdata/image-1.json"

// TestExample: the file of the first format is read as it is, and written as it is.
func TestExample(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	p, err := published.Read(example)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := p.Marshal(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("written again, %v:\n%s", err, again)
	}
	if p.Version != "v0.1.0" || p.Created.Unix() != 1795748384 || p.Files["hanaper.iso"].Size != 28311552 || len(p.Packages) != 2 || p.Tools["go"] != "go1.26.8" ||
		!strings.HasPrefix(p.PCRs["11"], "cdd3eaac") {
		t.Errorf("%+v", p)
	}
}

// TestRefusals: what is not exactly in the format is refused, and a newer format with its own words.
func TestRefusals(t *testing.T) {
	good, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ was, now, want string }{
		"a newer format":        {`"format": 1`, `"format": 2, "more": 3`, "newer release"},
		"no format":             {`"format": 1`, `"format": 0`, "format 0, want 1"},
		"an unknown field":      {`"format": 1`, `"format": 1, "more": 3`, "more"},
		"a field twice":         {`"format": 1`, `"format": 1, "Format": 1`, "ormat"},
		"a version with lines":  {`"v0.1.0"`, `"v0.1.0\n"`, "version"},
		"another time zone":     {`44Z`, `44+01:00`, "UTC"},
		"no image":              {`"hanaper.iso"`, `"hanaper.img"`, "hanaper.iso is missing"},
		"capital letters":       {`"cdd3`, `"CDD3`, "PCR"},
		"a short digest":        {`"cdd3`, `"cd`, "PCR"},
		"a size of none":        {`28311552`, `0`, "size"},
		"no PCR 11":             {`"11":`, `"10":`, "PCR 11 is missing"},
		"no PCR 12":             {`"12":`, `"14":`, "PCR 12 is missing"},
		"a PCR that is none":    {`"4":`, `"24":`, "PCR"},
		"a PCR otherwise named": {`"4":`, `"04":`, "PCR"},
		"something after it":    {"}\n}\n", "}\n}\n{}", "image.json"},
	} {
		data := bytes.Replace(good, []byte(c.was), []byte(c.now), 1)
		if bytes.Equal(data, good) {
			t.Fatalf("%s: %s is not in the example", name, c.was)
		}
		p, err := published.Parse("image.json", data)
		if err == nil || p.Version != "" || !strings.Contains(err.Error(), c.want) || advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: %+v, %v; want %q", name, p, err, c.want)
		}
	}
	if _, err := published.Read(filepath.Join(t.TempDir(), "none")); advice.KindOf(err) != advice.Usage {
		t.Errorf("no file: %v", err)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, append(good, make([]byte, published.MaxSize)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := published.Read(big); err == nil {
		t.Error("a file without end was read")
	}
}
