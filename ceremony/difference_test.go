package ceremony

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

func TestCompare(t *testing.T) {
	s := newStage(t)
	old, err := s.script(s.full())
	if err != nil {
		t.Fatal(err)
	}
	if list := Compare(old, old); len(list) != 0 {
		t.Errorf("a script differs from itself: %v", list)
	}
	text := s.full()
	const crl = "  - crl: {name: gateway-root-crl, issuer: gateway-root, number: 1, this_update: 2026-11-21T00:00:00Z, next_update: 2027-11-21T00:00:00Z}\n"
	for _, c := range []struct{ name, from, to, want string }{
		{"a field", "path_length: 0", "path_length: 1", "step changed certificate factory-ca path_length 0 1"},
		{"a field within", "common_name: Demo Fleet Root", "common_name: Demo Root", "step changed root-certificate fleet-root subject.common_name Demo Fleet Root Demo Root"},
		{"a field gone", "      path_length: 0\n", "", "step changed certificate factory-ca path_length 0 "},
		{"a step gone", crl, "", "step removed crl gateway-root-crl  name: gateway-root-crl, issuer: gateway-root, number: 1, this_update: 2026-11-21T00:00:00Z, next_update: 2027-11-21T00:00:00Z "},
		{"a step more", crl, crl + "  - generate-key: {name: spare, token: roots, algorithm: P-256}\n", "step added generate-key spare   name: spare, token: roots, algorithm: P-256"},
		{"a step moved", "steps:\n", "steps:\n" + crl, "step moved crl gateway-root-crl   "},
		{"an input", "gateway-csr: {{file \"gateway.csr\"}}", "gateway-csr: {{file \"hanaperd.csr\"}}", "input changed gateway-csr"},
		{"an input more", "inputs:\n", "inputs:\n  more: {{file \"hanaperd.csr\"}}\n", "input added more"},
		{"a token", "online: {uri: \"{{token \"online\"}}\"}", "online: {uri: \"pkcs11:token=another;serial=1\"}", "token changed online"},
		{"the window", "until: 2026-11-22T00:00:00Z", "until: 2026-11-23T00:00:00Z", "head changed window.until  2026-11-22T00:00:00Z 2026-11-23T00:00:00Z"},
		{"the title", "title: The first", "title: A first", "head changed title  The first ceremony of the demo fleet A first ceremony of the demo fleet"},
		{"the id", "ceremony: {{.Ceremony}}", "ceremony: other", "head changed ceremony  first other"},
	} {
		changed := strings.Replace(text, c.from, c.to, 1)
		if c.name == "a step moved" {
			changed = strings.Replace(changed, crl+"\n", "\n", 1)
		}
		now, err := s.script(changed)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		list := Compare(old, now)
		if len(list) != 1 {
			t.Errorf("%s: %d changes: %v", c.name, len(list), list)
			continue
		}
		x := list[0]
		if got := fmt.Sprint(x.In, " ", x.What, " ", x.Name, " ", x.Field, " ", x.Old, " ", x.New); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// TestCompareFolder compares with the copy that a finished ceremony keeps.
func TestCompareFolder(t *testing.T) {
	s := newStage(t)
	p := s.plan(s.full())
	result, err := Run(context.Background(), s.config(p))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := OpenScript(result.Out)
	if err != nil {
		t.Fatal(err)
	}
	if list := Compare(kept, p.script); len(list) != 0 {
		t.Errorf("%v", list)
	}
	for _, name := range []string{s.dir + "/nothing", s.dir} {
		if _, err := OpenScript(name); err == nil || advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
}
