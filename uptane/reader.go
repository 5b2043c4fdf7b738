package uptane

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/internal/format"
)

// reader takes values out of parsed JSON by exact names and keeps the first error.
type reader struct {
	// asOf says by what was known of weak keys what is read is judged.
	asOf  format.Version
	where string
	name  string // what is read, if where says only its kind; it is quoted in an error
	err   error
}

func (r *reader) fail(sentinel error, format string, args ...any) {
	if r.err == nil {
		where := r.where
		if r.name != "" {
			where += " " + strconv.Quote(r.name)
		}
		r.err = because(sentinel, "%s: %s", where, fmt.Sprintf(format, args...))
	}
}

var nothing value

func (r *reader) object(v *value) *value {
	if v.kind != object {
		r.fail(ErrMalformed, "expected an object, not %s", v.kind)
		return &nothing
	}
	return v
}

func (r *reader) member(o *value, key string) *value {
	v, ok := o.get(key)
	if !ok {
		r.fail(ErrMalformed, "%q is missing", key)
		return &nothing
	}
	return v
}

// only refuses members other than these.
func (r *reader) only(o *value, keys ...string) {
	for _, m := range o.members {
		if !slices.Contains(keys, m.key) {
			r.fail(ErrUnexpected, "unexpected member %q", m.key)
		}
	}
}

func (r *reader) text(o *value, key string) string { return r.asText(key, r.member(o, key)) }

func (r *reader) asText(what string, v *value) string {
	if v.kind != text {
		r.fail(ErrMalformed, "%q must be a string, not %s", what, v.kind)
		return ""
	}
	return v.str
}

func (r *reader) texts(o *value, key string) []string {
	v := r.member(o, key)
	if v.kind != array {
		r.fail(ErrMalformed, "%q must be an array, not %s", key, v.kind)
		return nil
	}
	list := make([]string, len(v.items))
	for i := range v.items {
		list[i] = r.asText(key, &v.items[i])
	}
	return list
}

func (r *reader) boolean(o *value, key string) bool {
	v := r.member(o, key)
	if v.kind != boolean {
		r.fail(ErrMalformed, "%q must be a boolean, not %s", key, v.kind)
	}
	return v.str == "true"
}

// integer reads a number between low and high.
func (r *reader) integer(o *value, key string, low, high int64) int64 {
	v := r.member(o, key)
	if v.kind != number {
		r.fail(ErrMalformed, "%q must be a number, not %s", key, v.kind)
		return 0
	}
	n, err := strconv.ParseInt(v.str, 10, 64)
	if err != nil || n < low || n > high {
		r.fail(ErrNumber, "%q is %s, outside %d to %d", key, v.str, low, high)
	}
	return n
}

// timeFormat is the only form of an expiry that devices accept; its length is fixed.
const timeFormat = "2006-01-02T15:04:05Z"

func (r *reader) time(o *value, key string) time.Time {
	s := r.text(o, key)
	t, err := ParseTime(s)
	if err != nil {
		r.fail(ErrTime, "%q: %v", key, err)
	}
	return t
}

// ParseTime reads a time in the one form that devices accept, YYYY-MM-DDTHH:MM:SSZ.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeFormat, s)
	if err != nil || t.Format(timeFormat) != s {
		return time.Time{}, because(ErrTime, "time %q is not in the form YYYY-MM-DDTHH:MM:SSZ, without fractions", s)
	}
	return t, nil
}

// formatTime writes an expiry and refuses one that has no such form.
func formatTime(what string, t time.Time) (string, error) {
	t = t.UTC()
	if t.Nanosecond() != 0 {
		return "", hinted(ErrTime, "truncate it to whole seconds: devices refuse fractions",
			"%s %s has a fraction of a second", what, t.Format(time.RFC3339Nano))
	}
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return "", because(ErrTime, "%s is not set or not within the years 1 to 9999", what)
	}
	return t.Format(timeFormat), nil
}
