package route

import (
	"net/http"
	"strings"
	"testing"
)

const given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestTrace: a device's trace is none of the upstream's, unless the configuration says so; and then only a valid one.
func TestTrace(t *testing.T) {
	plain, keep := &Router{}, &Router{keepTrace: true}
	h := http.Header{"Traceparent": {given}, "Tracestate": {"a=1", "b@c=2 ,, d=3"}}
	for range 100 {
		got := plain.trace(h)
		trace, sampled, ok := parseTraceParent([]string{got.parent})
		if !ok || sampled || got.state != "" || strings.Contains(given, got.parent[3:35]) || trace == [16]byte{} {
			t.Fatalf("%+v", got)
		}
	}
	if got := (&Router{sampled: true}).trace(h); !strings.HasSuffix(got.parent, "-01") {
		t.Errorf("not sampled: %+v", got)
	}
	got := keep.trace(h)
	if !strings.HasPrefix(got.parent, "00-0af7651916cd43dd8448eb211c80319c-") || !strings.HasSuffix(got.parent, "-01") || strings.Contains(got.parent, "b7ad6b7169203331") || got.state != "a=1,b@c=2,d=3" {
		t.Errorf("kept: %+v", got)
	}
	a, b := plain.trace(nil), plain.trace(nil)
	if a.parent == b.parent {
		t.Error("the same trace twice")
	}
}

// TestTraceParent follows W3C Trace Context, section 3.2, and its versioning in 4.3.
func TestTraceParent(t *testing.T) {
	for v, want := range map[string]bool{
		given: true, " " + given + "\t": true, strings.Replace(given, "-01", "-00", 1): true, strings.Replace(given, "-01", "-ff", 1): true,
		"cc" + given[2:]: true, "cc" + given[2:] + "-what": true, "cc" + given[2:] + ".what": false, given + "-what": false,
		"ff" + given[2:]: false, "": false, given[:54]: false, strings.ToUpper(given): false, "0x" + given[2:]: false, strings.Replace(given, "-", "_", 1): false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false, "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false,
		"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01": false, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g": false, "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": false,
	} {
		if _, _, ok := parseTraceParent([]string{v}); ok != want {
			t.Errorf("%q: %v", v, ok)
		}
	}
	if _, _, ok := parseTraceParent([]string{given, given}); ok {
		t.Error("two are one")
	}
	if _, _, ok := parseTraceParent(nil); ok {
		t.Error("none is one")
	}
}

// TestTraceState follows W3C Trace Context, section 3.3.
func TestTraceState(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	many := func(n int) (s string) {
		for i := range n {
			s += string(rune('a'+i%26)) + string(rune('a'+i/26)) + "=1,"
		}
		return s
	}
	for v, want := range map[string]bool{
		"a=1": true, "a=1,b=2": true, "a=1 ,\tb=2": true, "": true, ",,": true, "a*/-_9=x": true, "9t@sys=1": true, "a= x": true, "a=!~": true, long(256) + "=1": true, many(32): true,
		"a": false, "=1": false, "a=": false, "A=1": false, "9a=1": false, "a=1,a=2": false, "a=b=c": false, "a=\x01": false, "a=é": false, "a@9s=1": false, "a@=1": false, "@s=1": false, "a@b@c=1": false, "a@" + long(15) + "=1": false, long(242) + "@s=1": false,
		long(257) + "=1": false, "a=" + long(257): false, many(33): false, "a=" + long(256) + ",b=" + long(256): false, "a b=1": false,
	} {
		if got, ok := parseTraceState([]string{v}); ok != want || !ok && got != "" {
			t.Errorf("%.40q: %v", v, ok)
		}
	}
}

func FuzzTrace(f *testing.F) {
	f.Add(given, "a=1,b@c=2")
	f.Add("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", "a=1,a=1")
	f.Fuzz(func(t *testing.T, parent, state string) {
		got := (&Router{keepTrace: true}).trace(http.Header{"Traceparent": {parent}, "Tracestate": {state}})
		if _, _, ok := parseTraceParent([]string{got.parent}); !ok || len(got.parent) != 55 || !visible(strings.ReplaceAll(got.state, " ", "")) || len(got.state) > maxTraceState {
			t.Errorf("%q %q: %+v", parent, state, got)
		}
	})
}
