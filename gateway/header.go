package gateway

import (
	"net/http"
	"strings"
)

// foldHeader gives the spelling under which CGI-like upstreams see a header: they turn case, hyphen, underscore and dot
// alike into one thing, so that X_Device_Id, x.device.id and X-Device-Id are the same to them.
func foldHeader(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name)
}

// validHeaderName keeps our own headers to letters, digits and hyphens.
func validHeaderName(name string) bool {
	return name != "" && len(name) <= 64 && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		name[0] != '-' && name[len(name)-1] != '-'
}

// headerFilter removes what a device may not say about itself.
type headerFilter struct {
	folded map[string]bool
}

func newHeaderFilter(identity string, more []string) *headerFilter {
	f := &headerFilter{folded: map[string]bool{"forwarded": true, "x-real-ip": true, "via": true,
		// The gateway alone says whose certificate was shown (RFC 9440, section 4).
		"client-cert": true, "client-cert-chain": true}}
	for _, h := range append([]string{identity}, more...) {
		f.folded[foldHeader(h)] = true
	}
	return f
}

// strip removes the filtered headers, in every spelling.
func (f *headerFilter) strip(h http.Header) {
	for name := range h {
		if f.refuses(name) {
			delete(h, name)
		}
	}
}

func (f *headerFilter) refuses(name string) bool {
	folded := foldHeader(name)
	return f.folded[folded] || strings.HasPrefix(folded, "x-forwarded-")
}
