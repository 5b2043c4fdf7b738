package route

import (
	"net/http"
	"net/textproto"
	"strings"
)

// Fold gives the spelling under which CGI-like upstreams see a header: they turn case, hyphen, underscore and dot
// alike into one thing, so that X_Device_Id, x.device.id and X-Device-Id are the same to them.
func Fold(name string) string {
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

// claims are headers, in the folded spelling, by which some upstream is told who speaks, for whom, or what is asked: they are the gateway's to
// set, or nobody's. A word that ends in "-" stands for all that begin with it.
var claims = []string{
	"forwarded", "via", "x-real-ip", "true-client-ip", "x-client-ip", "cf-connecting-ip", "x-forwarded", "x-forwarded-", "x-original-", "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override",
	// Services of OTA Connect and ota-tuf take tenant and identity from these.
	"x-ats-", "x-here-",
	// The gateway alone says whose certificate was shown (RFC 9440, section 4), and no other proxy's way of saying it is taken either.
	"client-cert", "client-cert-", "x-client-cert", "x-client-cert-", "x-client-verify", "x-client-dn", "ssl-client-", "x-ssl-", "x-arr-clientcert",
	"remote-user", "x-remote-user",
	// Sidecars and load balancers do as these say.
	"x-envoy-", "x-amzn-",
	// To a CGI it is HTTP_PROXY.
	"proxy",
	// The gateway says to which trace a request belongs (see TraceConfig), and no other tracer's way of saying it is taken either.
	"traceparent", "tracestate", "baggage", "b3", "x-b3-", "uber-trace-id", "uberctx-", "x-cloud-trace-context", "x-datadog-", "sentry-trace",
}

// framing says how a message is framed or where it goes. In its own spelling the exchange takes care of it; in any other a careless upstream might.
var framing = map[string]bool{"content-length": true, "transfer-encoding": true, "host": true, "connection": true, "keep-alive": true, "te": true, "trailer": true,
	"upgrade": true, "proxy-connection": true, "proxy-authenticate": true, "proxy-authorization": true, "expect": true}

// harmless are the headers that devices send, in the spelling that net/http gives them: no claim and no framing, so that nobody need fold them.
// A configuration may still name one of them.
var harmless = []string{"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Content-Encoding", "Content-Type", "Cookie", "Date", "If-Match",
	"If-Modified-Since", "If-None-Match", "If-Range", "Range", "User-Agent"}

// headerFilter removes what a device may not say about itself.
type headerFilter struct {
	own  map[string]bool // folded: what the configuration names
	pass map[string]bool // canonical
}

func newHeaderFilter(own []string) *headerFilter {
	f := &headerFilter{own: map[string]bool{}, pass: map[string]bool{}}
	for _, h := range own {
		f.own[Fold(h)] = true
	}
	for _, h := range harmless {
		f.pass[h] = !f.own[Fold(h)]
	}
	return f
}

// refuses says whether a header stays behind: a claim in any spelling, framing, and what concerns one connection alone.
func (f *headerFilter) refuses(name string) bool {
	if f.pass[name] {
		return false
	}
	folded := Fold(name)
	if f.own[folded] || framing[folded] {
		return true
	}
	for _, c := range claims {
		if folded == c || c[len(c)-1] == '-' && strings.HasPrefix(folded, c) {
			return true
		}
	}
	return false
}

// listed are the headers that Connection lists, canonical: they end here too (RFC 9110, section 7.6.1). nil for none.
func listed(h http.Header) map[string]bool {
	var out map[string]bool
	for _, v := range h["Connection"] {
		if v == "close" || v == "keep-alive" {
			continue
		}
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.TrimString(name); name != "" {
				if out == nil {
					out = map[string]bool{}
				}
				out[http.CanonicalHeaderKey(name)] = true
			}
		}
	}
	return out
}

// hopByHop are the response headers that concern one connection alone (RFC 9110, section 7.6.1), or that the server writes by itself.
var hopByHop = map[string]bool{"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true}

// copyHeader takes over a response's header.
func copyHeader(to, from http.Header) {
	own := listed(from)
	for name, values := range from {
		if !hopByHop[name] && !own[name] {
			to[name] = values
		}
	}
}
