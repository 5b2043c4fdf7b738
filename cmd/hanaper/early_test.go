package main

import (
	"maps"
	"strings"
	"testing"
)

// TestKeysAreLookedForFirst: a key file that is not there, more than one officer, and an output that is there are said before anything is read aloud,
// asked or written.
func TestKeysAreLookedForFirst(t *testing.T) {
	d := newCeremony(t, "keys first")
	d.write("there", "x")
	typo := d.path("adaa.key")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"name a key file that exists", []string{"ceremony", "approve", "--officer", typo, "--out", d.path("out"), "--answers", d.path("yes"), d.path("script.yaml")}},
		{"one officer approves at a time", []string{"ceremony", "approve", "--officer", d.key("ada"), "--officer", d.key("berta"), "--out", d.path("out"), "--answers", d.path("yes"), d.path("script.yaml")}},
		{"exists already", []string{"ceremony", "approve", "--officer", d.key("ada"), "--out", d.path("there"), "--answers", d.path("yes"), d.path("script.yaml")}},
		{"name a key file that exists", []string{"officer", "check", "--officer", typo, "--roster", d.path("roster.json"), "--time", "2026-11-21T09:30:00Z", "--out", d.path("out")}},
		{"name a key file that exists", []string{"officer", "check", "--officer", d.key("ada"), "--decryption-key", typo, "--roster", d.path("roster.json"), "--time", "2026-11-21T09:30:00Z", "--out", d.path("out")}},
	} {
		before := d.files(".")
		code, out, errs := hanaper(t, c.args...)
		if code != 2 || !strings.Contains(errs, c.want) || strings.Contains(out+errs, "words") {
			t.Errorf("%v: exit code %d: %s%s", c.args, code, out, errs)
		}
		if !maps.Equal(before, d.files(".")) {
			t.Errorf("%v: something was written", c.args)
		}
	}
}
