package trust_test

import (
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"

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

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
