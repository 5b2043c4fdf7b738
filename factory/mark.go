package factory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// markEvery is how often the witnesses that want it are told how far the record is: what is enrolled in between, no mark knows.
const markEvery = time.Second

// mark is the content of a mark file.
type mark struct {
	// Sequence is the number of an event that the record had.
	Sequence int64 `json:"sequence"`
}

// MarkFile is a witness in a file that lies elsewhere than the store, so that who puts an older store back does not put back the file.
// An attacker who can write it can stop the line, until an operator looks, and can hide that the store is older.
func MarkFile(path string) Witness {
	return Witness{
		Name: "the mark " + path,
		Sequence: func(context.Context) (int64, error) {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return 0, nil
			}
			b, err := input.Read(path, 1<<10)
			if err != nil {
				return 0, err
			}
			var m mark
			d := json.NewDecoder(bytes.NewReader(b))
			d.DisallowUnknownFields()
			if err := d.Decode(&m); err != nil || m.Sequence < 0 {
				return 0, fmt.Errorf("%s is no mark: remove it if you know that the store is the latest (%v)", show.Text(path), err)
			}
			return m.Sequence, nil
		},
		Record: func(_ context.Context, sequence int64) error {
			return durable.WriteFile(path, fmt.Appendf(nil, "{\"sequence\": %d}\n", sequence), 0o644)
		},
	}
}

// keepMarks tells the witnesses that want it how far the record is, until ctx ends, and then once more.
func (s *Service) keepMarks(ctx context.Context) {
	told := int64(-1)
	tell := func(ctx context.Context) {
		n, err := s.c.Store.Sequence(ctx)
		if err != nil || n == told {
			return
		}
		for _, w := range s.c.Witnesses {
			if w.Record == nil {
				continue
			}
			if err := s.compareWitness(ctx, w); err != nil {
				s.c.Log.Error("how far the record is was not kept outside of it; it is tried again", "where", w.Name, "error", err)
				return
			}
		}
		told = n
	}
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			tell(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryAfter)
			defer cancel()
			tell(last)
			return
		}
	}
}
