package namepolicy

import (
	"net"
	"net/url"
	"testing"

	"github.com/hanaper/hanaper/factory"
)

func uris(t *testing.T, texts ...string) (out []*url.URL) {
	for _, s := range texts {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	return out
}

// TestCheck: a name passes only where no list denies it and, where its kind has a list of allowed ones, that list has it.
func TestCheck(t *testing.T) {
	type lists = factory.NameLists
	for _, c := range []struct {
		name        string
		allow, deny lists
		n           factory.Names
		ok          bool
	}{
		{"an allowed host", lists{DNS: []string{"*.a.example"}}, lists{}, factory.Names{CN: "dev-1", DNS: []string{"dev-1.a.example"}}, true},
		{"two labels below", lists{DNS: []string{"*.a.example"}}, lists{}, factory.Names{CN: "dev-1", DNS: []string{"x.dev-1.a.example"}}, false},
		{"another host", lists{DNS: []string{"*.a.example"}}, lists{}, factory.Names{CN: "dev-1", DNS: []string{"dev-1.b.example"}}, false},
		{"one of two", lists{DNS: []string{"*.a.example"}}, lists{}, factory.Names{CN: "dev-1", DNS: []string{"dev-1.a.example", "b.example"}}, false},
		{"allowed and denied", lists{DNS: []string{"*.a.example"}}, lists{DNS: []string{"admin.a.example"}}, factory.Names{CN: "dev-1", DNS: []string{"admin.a.example"}}, false},
		{"denied alone", lists{}, lists{DNS: []string{"a.example"}}, factory.Names{CN: "dev-1", DNS: []string{"a.example"}}, false},
		{"a CN that is a denied host", lists{}, lists{DNS: []string{"a.example"}}, factory.Names{CN: "a.example"}, false},
		{"a CN that is no host", lists{}, lists{DNS: []string{"a.example"}}, factory.Names{CN: "dev_1:7"}, true},
		{"a denied CN", lists{}, lists{CN: []string{"golden"}}, factory.Names{CN: "golden"}, false},
		{"a denied CN, by case", lists{}, lists{CN: []string{"golden"}}, factory.Names{CN: "GOLDEN"}, false},
		{"no denied CN", lists{}, lists{CN: []string{"golden"}}, factory.Names{CN: "dev-1"}, true},
		{"an allowed CN", lists{CN: []string{"dev-1"}}, lists{}, factory.Names{CN: "dev-1"}, true},
		{"another CN", lists{CN: []string{"dev-1"}}, lists{}, factory.Names{CN: "dev-2"}, false},
		{"another CN where hosts are allowed", lists{CN: []string{"dev-1"}, DNS: []string{"dev-2"}}, lists{}, factory.Names{CN: "dev-2"}, false},
		{"the CN again", lists{IP: []string{"192.0.2.0/24"}}, lists{}, factory.Names{CN: "dev-1", DNS: []string{"dev-1"}}, true},
		{"an allowed address", lists{IP: []string{"192.0.2.0/24"}}, lists{}, factory.Names{CN: "dev-1", IPs: []net.IP{net.IPv4(192, 0, 2, 7).To4()}}, true},
		{"another address", lists{IP: []string{"192.0.2.0/24"}}, lists{}, factory.Names{CN: "dev-1", IPs: []net.IP{net.IPv4(192, 0, 3, 7).To4()}}, false},
		{"a mail address", lists{Email: []string{"@a.example"}}, lists{}, factory.Names{CN: "dev-1", Emails: []string{"d@a.example"}}, true},
		{"another mail address", lists{Email: []string{"@a.example"}}, lists{}, factory.Names{CN: "dev-1", Emails: []string{"d@b.example"}}, false},
		{"a URI", lists{URI: []string{"a.example"}}, lists{}, factory.Names{CN: "dev-1", URIs: uris(t, "https://a.example/x")}, true},
		{"another URI", lists{URI: []string{"a.example"}}, lists{}, factory.Names{CN: "dev-1", URIs: uris(t, "https://b.example/x")}, false},
		{"a URI without a host", lists{URI: []string{"a.example"}}, lists{}, factory.Names{CN: "dev-1", URIs: uris(t, "urn:a.example")}, false},
	} {
		p, err := New(factory.NamesConfig{Allow: c.allow, Deny: c.deny})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := p.Check(c.n); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if p.Lists("dns") != (len(c.allow.DNS) > 0) || p.Lists("uri") != (len(c.allow.URI) > 0) {
			t.Errorf("%s: Lists", c.name)
		}
	}
	for name, bad := range map[string]factory.NamesConfig{
		"nothing": {}, "a wildcard inside": {Allow: lists{DNS: []string{"a.*.example"}}}, "no address": {Deny: lists{IP: []string{"300.1.1.1"}}},
		"a CN with a wildcard": {Allow: lists{CN: []string{"dev-*"}}}, "an empty CN": {Deny: lists{CN: []string{""}}}, "a URI for a host": {Allow: lists{URI: []string{"https://a.example"}}},
	} {
		if p, err := New(bad); p != nil || err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
