package trust_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

func checkpointOf(origin string, size int64, root byte) []byte {
	r := make([]byte, 32)
	r[0] = root
	return fmt.Appendf(nil, "%s\n%d\n%s\n\n— %s AAAA\n", origin, size, base64.StdEncoding.EncodeToString(r), origin)
}

func offer(t *testing.T, w *trusttest.World, note []byte, then func(*trust.Publisher) error) error {
	t.Helper()
	return w.Publish(func(p *trust.Publisher) error {
		if err := p.OfferCheckpoint(note); err != nil {
			return err
		}
		return then(p)
	})
}

func refresh(p *trust.Publisher) error { return p.Refresh() }

// TestLogsArePublished: a log's checkpoint goes with the next publication, or by itself; it never goes back, and readers notice.
func TestLogsArePublished(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1)
	plain := trusttest.Snap(t, w.Dir)
	if v := w.View(); len(v.Logs()) != 0 {
		t.Fatal(v.Logs())
	}
	before := w.View().Fingerprint()
	if err := offer(t, w, checkpointOf("plant-7", 10, 1), refresh); err != nil {
		t.Fatal(err)
	}
	v := w.View()
	if l := v.Logs(); len(l) != 1 || l[0].Origin != "plant-7" || l[0].Size != 10 || v.Fingerprint() != before {
		t.Fatalf("%+v", l)
	}
	first := trusttest.Snap(t, w.Dir)
	// With a CRL in the same publication, in a new process; and what others publish leaves the log as it is.
	if err := offer(t, w, checkpointOf("plant-7", 20, 2), func(p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, 2, 77)) }); err != nil {
		t.Fatal(err)
	}
	w.AddCRL(3, 77)
	if err := offer(t, w, checkpointOf("plant-8", 5, 2), refresh); err != nil {
		t.Fatal(err)
	}
	v = w.View()
	if l := v.Logs(); len(l) != 2 || l[0].Size != 20 || l[1].Origin != "plant-8" {
		t.Fatalf("%+v", l)
	}
	version := v.Versions().CRL
	// Again, older, forked: nothing is published.
	for note, want := range map[string]error{string(checkpointOf("plant-7", 20, 2)): nil, string(checkpointOf("plant-7", 19, 2)): trust.ErrRollback, string(checkpointOf("plant-7", 20, 3)): trust.ErrRollback,
		"nonsense": trust.ErrMalformed, string(checkpointOf("plant-7", 0, 2)): trust.ErrMalformed} {
		if err := offer(t, w, []byte(note), refresh); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%q: %v", note, err)
		}
	}
	if got := w.View().Versions().CRL; got != version {
		t.Errorf("the online role went from version %d to %d", version, got)
	}
	// While a process runs, a log that grows is published every LogEvery.
	c := w.PublisherConfig()
	c.LogEvery = time.Minute
	p, err := trust.NewPublisher(c)
	if err != nil {
		t.Fatal(err)
	}
	for i, published := range []int64{21, 21, 23} {
		if err := errors.Join(p.OfferCheckpoint(checkpointOf("plant-7", 21+int64(i), 9)), p.Refresh()); err != nil {
			t.Fatal(err)
		}
		if l := p.View().Logs(); l[0].Size != published {
			t.Errorf("%d: %d", i, l[0].Size)
		}
		w.Now = w.Now.Add(31 * time.Second)
	}
	now := trusttest.Snap(t, w.Dir)
	prev, err := trust.Open(now, w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	for name, old := range map[string]trust.Files{"before there was a log": plain, "the first": first} {
		if _, err := trust.OpenAfter(old, prev, w.Pin, w.Now); !errors.Is(err, trust.ErrRollback) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old, err := trust.Open(plain, w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.OpenAfter(now, old, w.Pin, w.Now); err != nil {
		t.Error(err)
	}
	if _, err := os.ReadDir(w.Dir); err != nil {
		t.Fatal(err)
	}
}

// TestLogsThatGoBack: the online key signs a repository in which a log was taken back. Who has seen the later one refuses.
func TestLogsThatGoBack(t *testing.T) {
	for name, c := range map[string]struct {
		note []byte
		want error
	}{
		"cut back":        {checkpointOf("plant-7", 19, 2), trust.ErrRollback},
		"two roots":       {checkpointOf("plant-7", 20, 9), trust.ErrRollback},
		"another's name":  {checkpointOf("plant-8", 21, 2), trust.ErrLoosened},
		"gone":            {nil, trust.ErrLoosened},
		"a later one":     {checkpointOf("plant-7", 21, 2), nil},
		"exactly as much": {checkpointOf("plant-7", 20, 2), nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := trusttest.New(t)
			w.Import()
			w.AddCRL(1)
			files := trusttest.Snap(t, w.Dir)
			if err := offer(t, w, checkpointOf("plant-7", 20, 2), refresh); err != nil {
				t.Fatal(err)
			}
			prev := w.View()
			// Another publisher with the same keys, who goes on from the time before there was a log.
			dir := t.TempDir()
			for path, data := range files {
				if err := os.MkdirAll(dir+"/"+path[:strings.LastIndex(path, "/")], 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dir+"/"+path, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			w.Dir = dir
			if c.note != nil {
				if err := offer(t, w, c.note, refresh); err != nil {
					t.Fatal(err)
				}
			}
			w.AddCRL(2)
			w.AddCRL(3)
			_, err := trust.OpenAfter(os.DirFS(dir), prev, w.Pin, w.Now)
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
