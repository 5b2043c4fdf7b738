package issuancelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// WitnessConfig says where a witness is asked (C2SP tlog-witness).
type WitnessConfig struct {
	// Name is that in the witness's verifier key.
	Name string
	// URL is the submission prefix; /add-checkpoint is appended.
	URL string
}

// ErrWitness means a witness that knows a later or another history of the log.
var ErrWitness = errors.New("a witness holds a checkpoint that the log does not follow")

// witnessTime bounds one call of a witness, maxWitness its answer in bytes.
const (
	witnessTime = 5 * time.Second
	maxWitness  = 16 << 10
)

// witness is one that is asked for cosignatures. It is used by one goroutine at a time.
type witness struct {
	key  *journal.Witness
	url  string
	http *http.Client
	// size is what the witness has cosigned, as far as known: it says so if it is another.
	size int64
}

func newWitnesses(p *logbook.Policy, list []WitnessConfig) ([]*witness, error) {
	var out []*witness
	client := &http.Client{Timeout: witnessTime, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a witness does not redirect") }}
	for _, key := range p.Witnesses() {
		found := false
		for _, c := range list {
			if c.Name != key.Name() {
				continue
			}
			u, err := url.Parse(c.URL)
			// Nothing secret is sent, and the answer is signed; without TLS a stranger can read checkpoints and hold them up.
			if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && !(u.Scheme == "http" && address.Loopback(u.Hostname())) {
				return nil, advice.New(advice.Usage, "write it as https://host/path", "the witness %s has the URL %.200q", show.Text(c.Name), c.URL)
			}
			out, found = append(out, &witness{key: key, url: strings.TrimSuffix(c.URL, "/") + "/add-checkpoint", http: client}), true
		}
		if !found {
			return nil, advice.New(advice.Usage, "give each witness a url", "the witness %s has no URL", show.Text(key.Name()))
		}
	}
	return out, nil
}

// cosign adds the cosignatures of all witnesses that answer. That one is away is no error; that one knows another history is.
func (l *Log) cosign(ctx context.Context, data []byte, size int64) ([]byte, error) {
	lines, faults := make([][]byte, len(l.witnesses)), make([]error, len(l.witnesses))
	var group sync.WaitGroup
	for i, w := range l.witnesses {
		group.Go(func() { lines[i], faults[i] = w.cosign(ctx, logbook.Folder(l.c.Folder), data, size) })
	}
	group.Wait()
	for i, err := range faults {
		if errors.Is(err, ErrWitness) {
			return nil, advice.Wrap(advice.Unverified, err, behindHint)
		}
		if err != nil {
			l.c.Log.Warn("a witness did not cosign", "witness", l.witnesses[i].key.Name(), "size", size, "error", err)
			continue
		}
		data = append(data[:len(data):len(data)], lines[i]...)
	}
	return data, nil
}

// cosign asks once, and again with the size that the witness names.
func (w *witness) cosign(ctx context.Context, f logbook.Files, data []byte, size int64) (line []byte, err error) {
	if size == 0 {
		return nil, errors.New("a log without entries is not cosigned")
	}
	for range 3 {
		proof, err := logbook.Consistency(ctx, f, w.size, size)
		if err != nil {
			return nil, err
		}
		status, answer, err := w.call(ctx, w.size, proof, data)
		if err != nil {
			return nil, err
		}
		switch status {
		case http.StatusOK:
			line, err := w.signature(data, answer)
			if err == nil {
				w.size = size
			}
			return line, err
		case http.StatusConflict:
			had, err := strconv.ParseInt(strings.TrimSpace(string(answer)), 10, 64)
			if err != nil || had < 0 {
				return nil, fmt.Errorf("it answers 409 without a size")
			}
			if had > size {
				return nil, fmt.Errorf("%w: %s has cosigned %d entries, the log has %d", ErrWitness, show.Text(w.key.Name()), had, size)
			}
			if had == w.size {
				return nil, fmt.Errorf("%w: %s refuses the checkpoint of %d entries after its own of %d", ErrWitness, show.Text(w.key.Name()), size, had)
			}
			w.size = had
		case http.StatusUnprocessableEntity:
			return nil, fmt.Errorf("%w: %s refuses the proof from %d to %d entries", ErrWitness, show.Text(w.key.Name()), w.size, size)
		default:
			return nil, fmt.Errorf("it answers %d: %s", status, show.Text(strings.TrimSpace(string(answer[:min(len(answer), 200)]))))
		}
	}
	return nil, errors.New("it names another size each time")
}

func (w *witness) call(ctx context.Context, old int64, proof []journal.Hash, data []byte) (status int, answer []byte, err error) {
	body := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range logbook.FormatHashes(proof) {
		body = append(append(body, h...), '\n')
	}
	body = append(append(body, '\n'), data...)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := w.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxWitness))
	return resp.StatusCode, answer, err
}

// signature finds the witness's own line in its answer, and verifies it.
func (w *witness) signature(data, answer []byte) ([]byte, error) {
	for _, line := range bytes.SplitAfter(answer, []byte("\n")) {
		if !bytes.HasPrefix(line, []byte("— "+w.key.Name()+" ")) || !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		if len(journal.Cosigned(append(bytes.Clone(data), line...), w.key)) == 1 {
			return line, nil
		}
	}
	return nil, errors.New("its answer holds no cosignature that verifies")
}
