package trust_test

import (
	"errors"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// TestHighWater puts an older copy of the published folder back: it verifies, but the publisher remembers a newer one. It
// signs nothing and writes nothing, so that a revoked serial stays revoked.
func TestHighWater(t *testing.T) {
	w := trusttest.New(t)
	config := w.PublisherConfig()
	config.HighWater = filepath.Join(t.TempDir(), "state", "high-water.json")
	publish := func(do func(*trust.Publisher) error) error {
		p, err := trust.NewPublisher(config)
		if err != nil {
			return err
		}
		return do(p)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(publish(func(p *trust.Publisher) error { return p.Import(w.Offline) }))
	old := t.TempDir()
	must(os.CopyFS(old, os.DirFS(w.Dir)))
	must(publish(func(p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, 1, 77)) }))
	newest := t.TempDir()
	must(os.CopyFS(newest, os.DirFS(w.Dir)))
	put := func(from string) {
		t.Helper()
		must(os.RemoveAll(w.Dir))
		if from == "" {
			must(os.Mkdir(w.Dir, 0o755))
			return
		}
		must(os.CopyFS(w.Dir, os.DirFS(from)))
	}
	mark := read(t, config.HighWater)
	for name, from := range map[string]string{"an older copy": old, "nothing at all": ""} {
		put(from)
		before := trusttest.Snap(t, w.Dir)
		for verb, do := range map[string]func(*trust.Publisher) error{
			"open": func(*trust.Publisher) error { return nil }, "refresh": (*trust.Publisher).Refresh,
			"import": func(p *trust.Publisher) error { return p.Import(w.Offline) },
			"crl":    func(p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, 2)) },
		} {
			if err := publish(do); !errors.Is(err, trust.ErrRollback) {
				t.Errorf("%s, %s: %v", name, verb, err)
			}
		}
		after := trusttest.Snap(t, w.Dir)
		if len(after) != len(before) {
			t.Errorf("%s: something was published", name)
		}
		for path, data := range before {
			if string(after[path]) != string(data) {
				t.Errorf("%s: %s was changed", name, path)
			}
		}
		if string(read(t, config.HighWater)) != string(mark) {
			t.Errorf("%s: the mark was changed", name)
		}
	}
	// A publisher that is running notices as well.
	put(newest)
	p, err := trust.NewPublisher(config)
	must(err)
	put(old)
	if err := p.Refresh(); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("while running: %v", err)
	}
	put(newest)
	must(publish((*trust.Publisher).Refresh))
	if !w.View().Revoked(w.Issuing.Cert, big.NewInt(77)) {
		t.Error("the serial is no longer revoked")
	}
	// The mark is of no use where it would be put back together with the folder, or for another environment.
	config.HighWater = filepath.Join(w.Dir, "high-water.json")
	if _, err := trust.NewPublisher(config); err == nil {
		t.Error("a mark within the folder is taken")
	}
}

// TestMarkLost: a folder that had a mark is not believed without it, whichever publication it is; one that a release without marks published
// begins one.
func TestMarkLost(t *testing.T) {
	o := newOffice(t)
	o.lose(false, true)
	before := o.around()
	if _, err := trust.NewPublisher(o.config); !errors.Is(err, trust.ErrRollback) || !strings.Contains(advice.Hint(err), "hanaper-repo restore") {
		t.Errorf("without its mark: %v", err)
	}
	if !maps.EqualFunc(before, o.around(), slices.Equal) {
		t.Error("something was written")
	}
	// The folder itself is as good a copy as any other.
	r := o.restoration()
	r.Seen = []int64{o.newest}
	_, err := trust.Restore(os.DirFS(o.config.Dir), r)
	o.must(err)
	o.good()
	o = newOffice(t)
	o.lose(false, true)
	o.must(os.Remove(filepath.Join(o.config.Dir, ".marked")))
	o.good()
	// A folder of a release that had the mark alone.
	o = newOffice(t)
	o.must(os.Remove(filepath.Join(o.config.Dir, ".marked")))
	o.good()
	o.lose(false, true)
	if _, err := trust.NewPublisher(o.config); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("without its mark: %v", err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
