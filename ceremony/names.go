package ceremony

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
)

// Every bound of a script.
const (
	maxSteps     = 500
	maxInputs    = 200
	maxTokens    = 32
	maxInputSize = 4 << 20
	maxWindow    = 31 * 24 * time.Hour
	maxName      = 64
)

var (
	nameForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	labelForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9 ._:+-]{0,62}[A-Za-z0-9._:+-])?$`)
	fileForm  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)
)

// parseTime reads a date of a script: absolute, UTC, whole seconds.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05Z", s)
	if err != nil || formatTime(t) != s { // package time also takes parts of a second
		return time.Time{}, advice.New(advice.Usage, "write dates in UTC, as 2026-11-21T09:00:00Z", "%q is not a date", s)
	}
	return t, nil
}

func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// ParseDigest reads a SHA-256 digest of 64 hex digits, with or without "sha256:" before it.
func ParseDigest(s string) ([32]byte, error) {
	if len(s) == 71 && s[:7] == "sha256:" {
		s = s[7:]
	}
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != 32 || hex.EncodeToString(raw) != s {
		return [32]byte{}, advice.New(advice.Usage, "give it as `sha256sum` prints it", "%.80q is not a SHA-256 digest of 64 hex digits", s)
	}
	return [32]byte(raw), nil
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
