package route

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/hanaper/hanaper/internal/show"
)

// Refusal is why a request is not handed on, and the status that says so.
type Refusal struct {
	Status int
	Why    string
}

func (r *Refusal) Error() string { return r.Why }

func refuse(status int, why string) *Refusal { return &Refusal{Status: status, Why: why} }

// CheckPath says whether p can be the path of a route: whole segments of letters, digits, "-", ".", "_" and "~", that have one spelling.
func CheckPath(p string) error {
	switch {
	case p == "/":
		return nil
	case len(p) > maxPath:
		return fmt.Errorf("%.20q... is longer than %d bytes", p, maxPath)
	case !strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/"):
		return fmt.Errorf("%q does not begin with a slash, or ends in one", p)
	}
	for s := range strings.SplitSeq(p[1:], "/") {
		if s == "" || s == "." || s == ".." || !plain(s) {
			return fmt.Errorf("%q has the segment %q", p, s)
		}
	}
	return nil
}

// plain says that s is made of unreserved characters alone (RFC 3986, section 2.3).
func plain(s string) bool {
	for i := range len(s) {
		if !unreserved(s[i]) {
			return false
		}
	}
	return true
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// under says whether a path lies at prefix or below it, by whole segments.
func under(path, prefix string) bool {
	return prefix == "/" || strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// match gives the longest route that path lies under, nil for none. t.routes begins with the longest.
func (t *Router) match(path string) *Route {
	for _, one := range t.routes {
		if under(path, one.path) {
			return one
		}
	}
	return nil
}

// Find gives the route of a request; or why it is handed on to nobody, which is told before anything of it has been.
func (t *Router) Find(r *http.Request) (*Route, *Refusal) {
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method):
		// In HTTP/2 it is a header like others, in HTTP/1.1 it would be the rest of the request line.
		return nil, refuse(http.StatusBadRequest, "the method is no token")
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return nil, refuse(http.StatusMethodNotAllowed, "this method is not forwarded")
	case r.URL.Scheme != "" || r.URL.Host != "" || !strings.HasPrefix(r.URL.Path, "/"):
		return nil, refuse(http.StatusBadRequest, "the request target is not a path")
	case strings.ContainsFunc(r.URL.Path, unicode.IsControl):
		return nil, refuse(http.StatusBadRequest, "the path has control characters")
	case !visible(r.URL.RawQuery):
		// A space in an HTTP/2 path would be one in the request line that is made of it.
		return nil, refuse(http.StatusBadRequest, "the query has characters that must be escaped")
	}
	raw := r.URL.EscapedPath()
	found := t.match(raw)
	if oneReading(raw) {
		if dotSegments(raw) {
			return nil, refuse(http.StatusBadRequest, "the path has dot segments")
		}
	} else {
		other, refusal := normal(raw)
		if refusal != nil {
			return nil, refusal
		}
		if t.match(other) != found {
			return nil, refuse(http.StatusBadRequest, "the path can be read in two ways: send it in its plain form")
		}
	}
	if found == nil {
		return nil, refuse(http.StatusNotFound, "there is no such route")
	}
	return found, nil
}

// oneReading says that every reader takes a path for the same: nothing in it is decoded, cut off or merged.
func oneReading(raw string) bool {
	before := byte(0)
	for i := range len(raw) {
		c := raw[i]
		if c == '%' || c == ';' || c == '\\' || c == '/' && before == '/' || c >= 0x80 {
			return false
		}
		before = c
	}
	return true
}

// normal is the path as the most generous reader takes it: decoded until nothing is left to decode, backslashes for slashes, without parameters
// (";..."), and slashes merged. A path that even then has dot segments, or is no text, is refused: readers differ about it.
func normal(raw string) (string, *Refusal) {
	p := raw
	for i := 0; ; i++ {
		q := unescape(p)
		if q == p {
			break
		}
		if i == maxDecoded {
			return "", refuse(http.StatusBadRequest, "the path is encoded many times over")
		}
		p = q
	}
	if !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl) {
		return "", refuse(http.StatusBadRequest, "the path has control characters, or is no UTF-8")
	}
	var b strings.Builder
	for part := range strings.FieldsFuncSeq(p, func(c rune) bool { return c == '/' || c == '\\' }) {
		name, _, _ := strings.Cut(part, ";")
		if name == "." || name == ".." || slices.ContainsFunc(strings.Split(part, ";"), func(s string) bool { return s == "." || s == ".." }) {
			return "", refuse(http.StatusBadRequest, "the path has dot segments")
		}
		if name != "" {
			b.WriteByte('/')
			b.WriteString(name)
		}
	}
	if b.Len() == 0 {
		return "/", nil
	}
	return b.String(), nil
}

// unescape decodes once what is an encoding, and leaves the rest, as lenient readers do: what is none must not hide what is one.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.WriteByte(c[0])
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// dotSegments in a path of one reading.
func dotSegments(path string) bool {
	for {
		i := strings.Index(path, "/.")
		if i < 0 {
			return false
		}
		rest := path[i+2:]
		if rest == "" || rest[0] == '/' || rest == "." || strings.HasPrefix(rest, "./") {
			return true
		}
		path = rest
	}
}

// visible says that s has nothing but visible ASCII.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Template is the path that takes the place of a route's own: segments, of which {device} and {environment} stand for what the gateway knows.
type template []string

const (
	devicePart      = "{device}"
	environmentPart = "{environment}"
)

// parseTemplate reads a template; nil for "", which leaves paths as they are.
func parseTemplate(text string) (template, error) {
	if text == "" {
		return nil, nil
	}
	if !strings.HasPrefix(text, "/") || len(text) > maxPath {
		return nil, fmt.Errorf("%s does not begin with a slash, or is long", show.Text(text))
	}
	out := template{}
	if text == "/" {
		return out, nil
	}
	for s := range strings.SplitSeq(text[1:], "/") {
		if s == devicePart || s == environmentPart || s != "" && s != "." && s != ".." && plain(s) {
			out = append(out, s)
			continue
		}
		return nil, fmt.Errorf("%s has the segment %s: letters, digits and -._~, {device} or {environment}", show.Text(text), show.Text(s))
	}
	return out, nil
}

// fill writes the template's path, without a slash at its end.
func (t template) fill(b *strings.Builder, id *Identity) {
	for _, s := range t {
		b.WriteByte('/')
		switch s {
		case devicePart:
			escapeSegment(b, id.Device)
		case environmentPart:
			escapeSegment(b, id.Environment)
		default:
			b.WriteString(s)
		}
	}
}

// escapeSegment escapes all that is not unreserved, so that a segment stays one to every reader.
func escapeSegment(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if unreserved(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
}

// target is what the upstream is asked for: its base path, the route's path or what takes its place, the rest as the device sent it, and the query.
func (t *Route) target(u *url.URL, id *Identity) string {
	raw := u.EscapedPath()
	if t.to == nil && t.upstream.base == "" && u.RawQuery == "" && !u.ForceQuery {
		return raw
	}
	var b strings.Builder
	b.Grow(len(t.upstream.base) + len(raw) + len(u.RawQuery) + 2*len(id.Device) + 64)
	b.WriteString(t.upstream.base)
	if t.to == nil {
		b.WriteString(raw)
	} else {
		before := b.Len()
		t.to.fill(&b, id)
		if t.path == "/" {
			b.WriteString(raw)
		} else {
			b.WriteString(raw[len(t.path):])
		}
		if b.Len() == before {
			b.WriteByte('/')
		}
	}
	if u.RawQuery != "" || u.ForceQuery {
		b.WriteByte('?')
		b.WriteString(u.RawQuery)
	}
	return b.String()
}
