package ceremony

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Verify checks a finished folder offline: every file against the manifest, the manifest against the transcript, the
// transcript against the checkpoint and its signatures, and all that the script says against all that was done. Without
// an anchor nothing says whose folder this is, and the error says so beside the report. So it does where fewer officers signed than must agree
// (ErrNotAttested).
func Verify(ctx context.Context, folder fs.FS, a Anchors) (*Report, error) {
	v, err := replay(ctx, folder, a)
	if err != nil {
		if advice.KindOf(err) != advice.Unverified {
			err = advice.Wrap(advice.Unverified, err, advice.Hint(err))
		}
		return nil, err
	}
	r := v.report()
	if v.rehearsal {
		return r, errRehearsed
	}
	r.Authenticated = a.given()
	if !r.Authenticated {
		return r, ErrNotAuthenticated
	}
	return r, v.attested()
}

var (
	errRehearsed = advice.New(advice.Unverified, "perform the script with `hanaper ceremony run`", "a REHEARSAL, consistent in itself: no ceremony was held")
	// ErrNotAuthenticated means a folder that is consistent in itself, and of which nothing says whose it is.
	ErrNotAuthenticated = advice.New(advice.Unverified, "give the roster's digest, as people compared it, with --roster",
		"consistent, NOT authenticated: nothing says that these officers are the right ones")
)

// damaged names the file at which a folder fails.
func damaged(file, format string, args ...any) error {
	return advice.New(advice.Unverified, "do not use this folder; fetch it again, or ask those who performed the ceremony",
		"%s: %w", show.Text(file), fmt.Errorf(format, args...))
}
