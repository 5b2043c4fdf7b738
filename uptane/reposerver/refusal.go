package reposerver

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// refusal is an error with the answer that it deserves. What is no refusal is the server's own fault: 500.
type refusal struct {
	status int
	code   string
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Is lets the server's methods return what the client's do.
func (r *refusal) Is(target error) bool {
	return (&ResponseError{Status: r.status, Code: r.code}).Is(target)
}

func refuse(status int, code, format string, args ...any) error {
	return advice.Wrap(advice.Refused, &refusal{status, code, fmt.Errorf(format, args...)}, "")
}

// refuseWith keeps the hint of an error.
func refuseWith(status int, code string, err error) error {
	return advice.Wrap(advice.Refused, &refusal{status, code, err}, advice.Hint(err))
}

func refuseHint(status int, code, hint, format string, args ...any) error {
	return advice.Wrap(advice.Refused, &refusal{status, code, fmt.Errorf(format, args...)}, hint)
}

// writeError is the one place where errors become answers.
func writeError(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	status, code, text := http.StatusInternalServerError, codeInternal, "the server failed; its log says more"
	var ref *refusal
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &ref):
		status, code, text = ref.status, ref.code, err.Error()
		if hint := advice.Hint(err); hint != "" {
			text += ": " + hint
		}
	case errors.As(err, &big):
		status, code, text = http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("the body is larger than %d bytes", big.Limit)
	case errors.Is(err, uptane.ErrTooLarge):
		status, code, text = http.StatusRequestEntityTooLarge, codeTooLarge, err.Error()
	}
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	// In the log as on the wire: people search the one for the other.
	id := fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
	level := slog.LevelInfo
	if status >= 500 {
		level = slog.LevelError
	}
	log.Log(r.Context(), level, "refused", "method", r.Method, "path", r.URL.Path, "status", status, "code", code, "error", printable(err.Error()), "id", id)
	if status == http.StatusUnauthorized {
		w.Header().Add("WWW-Authenticate", `Basic realm="repository"`)
		w.Header().Add("WWW-Authenticate", "Bearer")
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	writeJSON(w, status, struct {
		Code        string  `json:"code"`
		Description string  `json:"description"`
		Cause       *string `json:"cause"`
		ErrorID     string  `json:"errorId"`
	}{code, printable(text), nil, id})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte("{}")
	}
	writeBytes(w, status, data)
}

// writeMetadata answers with a file and its tag: a caller that has it already is told so.
func writeMetadata(w http.ResponseWriter, r *http.Request, data []byte) {
	writeTagged(w, r, data, digestOf(data))
}

func writeTagged(w http.ResponseWriter, r *http.Request, data []byte, digest string) {
	tag := `"` + digest + `"`
	w.Header().Set("ETag", tag)
	for _, one := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
			w.Header().Set("Cache-Control", "no-cache")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	writeAs(w, http.StatusOK, data, "no-cache")
}

func writeBytes(w http.ResponseWriter, status int, data []byte) { writeAs(w, status, data, "no-store") }

func writeAs(w http.ResponseWriter, status int, data []byte, keep string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", keep)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}
