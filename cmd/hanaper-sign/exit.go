package main

import (
	"errors"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane/office"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// exitCode keeps garage-sign's codes: 255 for a call that is not well formed, 2 when somebody else has pushed targets
// since ours were pulled, 1 for an error that comes with an explanation, 3 for any other.
func exitCode(err error) int {
	var usage *usageError
	switch {
	case errors.As(err, &usage), errors.Is(err, office.ErrOptions):
		return 255
	case errors.Is(err, reposerver.ErrChecksum):
		return 2
	case advice.Hint(err) != "" || advice.KindOf(err) != advice.Failed:
		return 1
	}
	return 3
}
