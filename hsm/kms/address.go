package kms

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.step.sm/crypto/kms/uri"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Address is a store, and perhaps a key in it, as a URI names them. It exists only if each attribute of the URI is one that the
// store has, stands once, and can hold no secret.
type Address struct {
	scheme *scheme
	values map[string]string // attributes that say which store
	name   string            // the key, or empty
}

// Parse reads a URI of one of hsm.KMSSchemes. What a scheme takes is in docs/hsm/stores.md.
func Parse(u hsm.URI) (*Address, error) {
	s := schemes[u.Scheme]
	if s == nil {
		return nil, advice.New(advice.Usage, "write the URI of another key store", "key URI: %s: keys cannot be used on this kind of machine", show.Text(u.Scheme))
	}
	fail := func(format string, args ...any) (*Address, error) {
		return nil, advice.New(advice.Usage, "write it as "+s.form, "key URI of scheme %s: %w", s.name, fmt.Errorf(format, args...))
	}
	a := &Address{scheme: s, values: map[string]string{}}
	if u.PINSource != "" && !s.secret {
		return fail("pin-source is given, and the store has no PIN")
	}
	for i, part := range strings.FieldsFunc(u.Opaque, func(r rune) bool { return strings.ContainsRune(";?&", r) }) {
		name, escaped, found := strings.Cut(part, "=")
		if !found && i == 0 && s.bare != "" {
			name, escaped = s.bare, name
		} else if !found {
			return fail("%s is an attribute without a value", show.Text(name))
		}
		value, err := url.PathUnescape(escaped)
		switch {
		case err != nil:
			return fail("attribute %s: an escape is not two hex digits", show.Text(name))
		case value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return fail("attribute %s is empty or holds a control character", show.Text(name))
		case strings.HasSuffix(name, "-file") || strings.HasSuffix(name, "-source") || slices.Contains([]string{"path", "device", "storage-directory", "socket"}, name):
			if !strings.HasPrefix(value, "/") {
				return fail("attribute %s is not an absolute path", show.Text(name))
			}
		}
		switch {
		case name == s.key:
			if a.name != "" {
				return fail("the key is named twice")
			}
			a.name = value
		case !slices.Contains(s.where, name):
			return fail("unknown attribute %s; it takes %s", show.Text(name), strings.Join(append([]string{s.key}, s.where...), ", "))
		case a.values[name] != "":
			return fail("attribute %s is given twice", show.Text(name))
		default:
			a.values[name] = value
		}
	}
	if s.check != nil {
		if err := s.check(a); err != nil {
			return fail("%w", err)
		}
	}
	if a.name != "" {
		return a, a.checkName(a.name)
	}
	return a, nil
}

// checkName refuses a name that the store could not mean.
func (a *Address) checkName(name string) error {
	if len(name) <= maxName && a.scheme.names.MatchString(name) {
		return nil
	}
	return advice.New(advice.Usage, "write it as "+a.scheme.form, "key URI of scheme %s: %s is not the name of a key there%s", a.scheme.name, show.Text(name), a.scheme.namesWhy)
}

// info describes the store.
func (a *Address) info() hsm.TokenInfo {
	return hsm.TokenInfo{Label: a.text(""), Module: "go.step.sm/crypto/kms/" + a.scheme.name, Initialized: true, LoginRequired: a.scheme.early}
}

// text is the URI of the store, or of a key in it.
func (a *Address) text(name string) string { return a.scheme.name + ":" + a.opaque(name) }

func (a *Address) opaque(name string) string {
	var parts []string
	if name != "" {
		parts = append(parts, a.scheme.key+"="+escape(name))
	}
	for _, k := range slices.Sorted(maps.Keys(a.values)) {
		parts = append(parts, k+"="+escape(a.values[k]))
	}
	return strings.Join(parts, ";")
}

var unsafe = regexp.MustCompile(`[^A-Za-z0-9._~:/@-]`)

func escape(s string) string {
	return unsafe.ReplaceAllStringFunc(s, func(c string) string {
		var b strings.Builder
		for i := range len(c) {
			fmt.Fprintf(&b, "%%%02X", c[i])
		}
		return b.String()
	})
}

// keyURI names a key in the store.
func (a *Address) keyURI(name string) hsm.URI {
	return hsm.URI{Scheme: a.scheme.name, Opaque: a.opaque(name)}
}

// forStep is the URI of the store, or of a key in it, as step's packages read it.
func (a *Address) forStep(name string) string {
	v := url.Values{}
	for k, value := range a.values {
		v.Set(k, value)
	}
	if name != "" {
		v.Set(a.scheme.key, name)
	}
	return uri.New(a.scheme.name, v).String()
}

// attribute takes one attribute out of a URI that a store gave.
func attribute(name string) func(string) string {
	return func(text string) string {
		if u, err := uri.Parse(text); err == nil {
			return u.Get(name)
		}
		return ""
	}
}

// opaque takes what follows the scheme of a URI that a store gave.
func opaque(text string) string {
	_, rest, _ := strings.Cut(text, ":")
	return rest
}
