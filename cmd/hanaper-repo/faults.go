package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/trust"
)

// fault is something that the running service could not do, and tries again.
type fault struct {
	// What names the source, or the part of the service.
	What string `json:"what"`
	// IssuerID and Number are those of the CRL that is not published, where it is one.
	IssuerID string `json:"issuer_id,omitempty"`
	Number   string `json:"number,omitempty"`
	// Since is when it failed first, and has not gone well since.
	Since string `json:"since"`
	Error string `json:"error"`
	Hint  string `json:"hint"`
}

// faults tells the log of each fault once, and once more when it is over, and keeps those that are not over. It is safe for concurrent use.
type faults struct {
	log *slog.Logger
	mu  sync.Mutex
	// of are the faults of each source.
	of map[string][]fault
	// trying is what is being published since began; empty for nothing.
	trying string
	began  time.Time
}

// slow is for how long a publication may be under way before it counts as a fault: a token that is away is waited for much longer.
const slow = 3 * time.Second

// try does something that asks the token and writes to the disk.
func (f *faults) try(what string, do func() error) error {
	set := func(what string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.trying, f.began = what, now()
	}
	set(what)
	defer set("")
	return do()
}

func newFaults(log *slog.Logger) *faults { return &faults{log: log, of: map[string][]fault{}} }

// itemError is the fault of one file of several.
type itemError struct {
	item string
	error
}

// Unwrap implements the interface of package errors.
func (e *itemError) Unwrap() error { return e.error }

// note takes the outcome of one try of a source; err may join the faults of several files.
func (f *faults) note(source string, err error) {
	each := split(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.of[source]
	var is []fault
	for _, e := range each {
		one := fault{What: source, Since: stamp(now()), Error: e.Error(), Hint: hintFor(e)}
		if item := (*itemError)(nil); errors.As(e, &item) {
			one.What = item.item
		}
		if crl := (*trust.UnpublishedError)(nil); errors.As(e, &crl) {
			one.IssuerID, one.Number = crl.Issuer.String(), crl.Number.String()
		}
		known := slices.IndexFunc(was, func(o fault) bool { return o.What == one.What })
		if known >= 0 {
			one.Since = was[known].Since
		}
		if known < 0 || was[known].Error != one.Error {
			f.log.Error("not published", "what", one.What, "error", one.Error, "hint", one.Hint)
		}
		is = append(is, one)
	}
	for _, o := range was {
		if !slices.ContainsFunc(is, func(one fault) bool { return o.What == one.What }) {
			f.log.Info("in order again", "what", o.What)
		}
	}
	if delete(f.of, source); len(is) > 0 {
		f.of[source] = is
	}
}

// split gives the errors that err joins.
func split(err error) (out []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case ok:
		for _, e := range joined.Unwrap() {
			out = append(out, split(e)...)
		}
	case err != nil:
		out = []error{err}
	}
	return out
}

// list gives the faults that are not over, the oldest first.
func (f *faults) list() []fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []fault{}
	for _, source := range slices.Sorted(maps.Keys(f.of)) {
		out = append(out, f.of[source]...)
	}
	if f.trying != "" && len(f.of[f.trying]) == 0 && now().Sub(f.began) > slow {
		since := stamp(f.began)
		out = append(out, fault{What: f.trying, Since: since, Error: f.trying + ": publishing has not come to its end: the token of the online keys or the disk does not answer",
			Hint: "is the token of the online keys (keys.token) there, and does it sign? Until then gateways go on with what was published before"})
	}
	slices.SortStableFunc(out, func(a, b fault) int { return strings.Compare(a.Since, b.Since) })
	return out
}

// health is "ok", or that something is not published: without its name, for everybody may ask.
func (f *faults) health() string {
	if list := f.list(); len(list) > 0 {
		return "degraded: something is not published since " + list[0].Since + "; 'hanaper-repo status' on its machine says what"
	}
	return "ok"
}

// hintFor is what to do about a fault. Each is tried again by itself.
func hintFor(err error) string {
	const again = ". Until then gateways go on with what was published before: whom it does not revoke is admitted. 'serve' tries again by itself"
	switch {
	case durable.Full(err):
		return "the disk is full: make room on the disks of publish and high_water" + again
	case errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission):
		return "may this service read and write there, and is the disk mounted for writing?" + again
	case errors.Is(err, hsm.ErrPIN) || errors.Is(err, hsm.ErrPINLocked):
		return "check the PIN of keys.token, and start 'serve' anew" + strings.TrimSuffix(again, ". 'serve' tries again by itself")
	case errors.Is(err, trust.ErrRollback):
		return "what lies there is older than what is published: put the CA's newest CRL there, or remove the file. If the CA's numbers went back, its store was restored from a backup"
	case errors.Is(err, hsm.ErrGone) || errors.Is(err, hsm.ErrNoToken) || errors.Is(err, context.DeadlineExceeded) && errors.As(err, new(*trust.UnpublishedError)) ||
		errors.As(err, new(*trust.UnpublishedError)) && advice.Hint(err) == "":
		hint := "is the token of the online keys (keys.token) there, and does it sign?"
		if more := advice.Hint(err); more != "" {
			hint += " " + strings.ToUpper(more[:1]) + more[1:]
		}
		return hint + again
	case advice.Hint(err) != "":
		return advice.Hint(err)
	}
	return "the error says what is missing: the token of the online keys, a file, a server" + again
}
