package tpm

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/hsm"
)

// defaultPatience is how long a call without a deadline waits for its turn and for a TPM that went away.
const defaultPatience = 60 * time.Second

// chip is a TPM that operations take turns at.
type chip struct {
	path     string
	patience time.Duration
	turn     chan struct{}
}

func newChip(path string, patience time.Duration) *chip {
	c := &chip{path: cmp.Or(path, DefaultDevice), patience: patience, turn: make(chan struct{}, 1)}
	if c.patience <= 0 {
		c.patience = defaultPatience
	}
	return c
}

// result is what an operation answers.
type result[T any] struct {
	value T
	err   error
}

// operate runs f alone at the TPM. It returns when the context ends; f then ends with the command that is under way, and what it
// loaded is flushed before the next operation begins.
func operate[T any](ctx context.Context, c *chip, f func(w *wire) (T, error)) (T, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.patience+slowTime)
		defer cancel()
	}
	var none T
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("waiting for a turn at the TPM: %w", ctx.Err())
	}
	done := make(chan result[T], 1)
	go func() {
		defer func() { <-c.turn }()
		v, err := alone(ctx, c, f)
		done <- result[T]{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		select {
		case r := <-done: // it ended at the same time
			return r.value, r.err
		default:
			return none, fmt.Errorf("%w: the TPM does not answer: %w", hsm.ErrGone, ctx.Err())
		}
	}
}

func alone[T any](ctx context.Context, c *chip, f func(w *wire) (T, error)) (T, error) {
	var none T
	w, err := c.dial(ctx)
	if err != nil {
		return none, err
	}
	defer w.close()
	defer w.finish()
	if !managed(c.path) {
		if err := w.sweep(); err != nil {
			return none, err
		}
	}
	return f(w)
}

// dial opens the TPM. One that is not there is waited for, up to the patience: it may be an emulator that starts anew.
func (c *chip) dial(ctx context.Context) (*wire, error) {
	until := time.Now().Add(min(c.patience, 2*time.Second))
	for {
		w, err := dial(ctx, c.path)
		if err == nil || !gone(err) || time.Now().After(until) {
			return w, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
