package gateway

import (
	"net/http"
	"slices"
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

// claims are headers, in the folded spelling, by which some upstream is told who speaks, for whom, or what is asked: they are the gateway's to
// set, or nobody's. A word that ends in "-" stands for all that begin with it.
var claims = []string{
	"forwarded", "via", "x-real-ip", "true-client-ip", "x-forwarded-", "x-original-", "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override",
	// Services of OTA Connect and ota-tuf take tenant and identity from these.
	"x-ats-", "x-here-",
	// The gateway alone says whose certificate was shown (RFC 9440, section 4), and no other proxy's way of saying it is taken either.
	"client-cert", "client-cert-", "x-client-cert", "x-client-cert-", "x-client-verify", "x-client-dn", "ssl-client-", "x-ssl-", "x-arr-clientcert",
	// To a CGI it is HTTP_PROXY.
	"proxy",
}

// framing says how a message is framed or where it goes. In its own spelling HTTP takes care of it; in any other a careless upstream might.
var framing = []string{"content-length", "transfer-encoding", "host", "connection", "keep-alive", "te", "trailer", "upgrade", "proxy-connection", "proxy-authorization", "expect"}

func newHeaderFilter(identity string, more []string) *headerFilter {
	f := &headerFilter{folded: map[string]bool{}}
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
	if f.folded[folded] {
		return true
	}
	for _, c := range claims {
		if folded == c || strings.HasSuffix(c, "-") && strings.HasPrefix(folded, c) {
			return true
		}
	}
	return slices.Contains(framing, folded) && !strings.EqualFold(name, folded)
}
