package ceremony

import (
	"context"
	"crypto"
	"io"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/bench"
)

// timed counts the time spent in calls into a token.
type timed struct {
	hsm.Token
	spent *time.Duration
}

func (t timed) count(start time.Time) { *t.spent += time.Since(start) }

func (t timed) Generate(ctx context.Context, s hsm.GenerateSpec) (hsm.Key, error) {
	defer t.count(time.Now())
	k, err := t.Token.Generate(ctx, s)
	return timedKey{k, t}, err
}

func (t timed) Keys(ctx context.Context) ([]hsm.Key, error) {
	defer t.count(time.Now())
	return t.Token.Keys(ctx)
}

func (t timed) Close() error {
	defer t.count(time.Now())
	return t.Token.Close()
}

type timedKey struct {
	hsm.Key
	token timed
}

func (k timedKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer k.token.count(time.Now())
	return k.Key.Sign(rand, digest, opts)
}

// BenchmarkCompareCeremony performs testdata/full.yaml from its file to the signed folder, beside the bare generation of
// the same nine keys on the same tokens. The tool's own time is the first without its calls into the token.
func BenchmarkCompareCeremony(b *testing.B) {
	var own, inToken, bare []float64
	n := 0
	bench.Compare(b, "ceremony", "1/s", bench.Side{Name: "ceremony-full", Rate: func() (float64, error) {
		s := newStage(b)
		s.put("script.yaml", s.fill(s.full()))
		var token time.Duration
		start := time.Now()
		script, err := LoadScript(filepath.Join(s.dir, "script.yaml"))
		if err != nil {
			return 0, err
		}
		plan, err := script.Validate(context.Background())
		if err != nil {
			return 0, err
		}
		c := s.config(plan)
		c.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
			defer func(start time.Time) { token += time.Since(start) }(time.Now())
			t, err := s.open(ctx, name, uri, pin)
			return timed{t, &token}, err
		}
		if _, err := Run(context.Background(), c); err != nil {
			return 0, err
		}
		whole := time.Since(start)
		own, inToken = append(own, (whole-token).Seconds()), append(inToken, token.Seconds())
		return 1 / whole.Seconds(), nil
	}}, bench.Side{Name: "ceremony-bare-keys", Rate: func() (float64, error) {
		s := newStage(b)
		t, err := s.open(context.Background(), "roots", hsm.URI{Token: s.boards["roots"].Label}, nil)
		if err != nil {
			return 0, err
		}
		defer t.Close()
		start := time.Now()
		for _, a := range []hsm.Algorithm{hsm.P384, hsm.P384, hsm.P384, hsm.Ed25519, hsm.Ed25519, hsm.Ed25519, hsm.Ed25519, hsm.P256, hsm.P256} {
			n++
			if _, err := t.Generate(context.Background(), hsm.GenerateSpec{Label: "bare " + strconv.Itoa(n), Algorithm: a}); err != nil {
				return 0, err
			}
		}
		spent := time.Since(start).Seconds()
		bare = append(bare, spent)
		return 1 / spent, nil
	}})
	bench.Figure("ceremony-own-time", bench.Median(own), "s")
	bench.Figure("ceremony-token-time", bench.Median(inToken), "s")
	bench.Figure("ceremony-bare-keygen", bench.Median(bare), "s")
	if median := bench.Median(own); median >= 1 {
		b.Errorf("the tool's own time is %.2f s, want less than 1", median)
	}
}
