package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/softhsm"
)

// TestReady: what needs no secret and no answer is found before either is asked for: there is nobody to answer here.
func TestReady(t *testing.T) {
	d := newCeremony(t, "ready")
	d.write("silence", "")
	d.ok(d.approve("ada", "ada.json")...)
	d.refused(3, "is for the program with SHA-256", "berta.json", d.approve("berta", "berta.json", "--with", d.path("ada.json"), "--tool", strings.Repeat("0", 64))...)
	d.refused(3, "counts once", "ada-again.json", d.approve("ada", "ada-again.json", "--with", d.path("ada.json"))...)
	d.ok(d.approve("berta", "berta.json", "--with", d.path("ada.json"))...)
	silent := func(change func([]string) []string, approvals ...string) []string {
		args := d.run("out", approvals...)
		args[slices.Index(args, "--answers")+1] = d.path("silence")
		if change != nil {
			args = change(args)
		}
		return args
	}
	without := func(flag string) func([]string) []string {
		return func(args []string) []string {
			for i := slices.Index(args, flag); i >= 0; i = slices.Index(args, flag) {
				args = slices.Delete(args, i, i+2)
			}
			return args
		}
	}
	with := func(flag, value string) func([]string) []string {
		return func(args []string) []string {
			args[slices.Index(args, flag)+1] = value
			return args
		}
	}
	for _, c := range []struct {
		name, says string
		code       int
		change     func([]string) []string
		approvals  []string
	}{
		{"no approval", "CER-020", 3, nil, nil},
		{"one approval of two", "CER-020", 3, nil, []string{"ada.json"}},
		{"nobody present", "officer", 2, without("--officer"), []string{"ada.json", "berta.json"}},
		{"a key that is not there", "no such file", 2, with("--officer", d.path("nobody.key")), []string{"ada.json", "berta.json"}},
		{"no folder above the output", "CER-005", 3, with("--out", d.path("no/such/out")), []string{"ada.json", "berta.json"}},
		{"a state that is a file", "the state folder", 1, with("--state", d.path("yes")), []string{"ada.json", "berta.json"}},
		{"an earlier ceremony that the script does not have", "carries on from no earlier", 2, func(a []string) []string {
			return slices.Insert(a, 2, "--earlier", strings.Repeat("0", 64))
		}, []string{"ada.json", "berta.json"}},
	} {
		t.Log(c.name)
		d.refused(c.code, c.says, "out", silent(c.change, c.approvals...)...)
		d.nothing("no", "state")
	}
	// With all that in order the first thing is a question, that nobody answers.
	d.refused(2, "no answer is left", "out", silent(without("--time"), "ada.json", "berta.json")...)

	// A token that is not there: the script names another serial.
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	d.write("script.yaml", fmt.Sprintf(smallScript, d.digest("roster.json"), hsm.URI{Token: "ready", Serial: "0123456789abcdef"}))
	d.ok(d.approve("ada", "ada-2.json")...)
	d.ok(d.approve("berta", "berta-2.json", "--with", d.path("ada-2.json"))...)
	d.write("bindings.yaml", fmt.Sprintf("tokens:\n  roots: %q\n", "pkcs11:?module-path="+module))
	d.refused(1, "no such token", "out", silent(nil, "ada-2.json", "berta-2.json")...)
	d.nothing("state")
}
