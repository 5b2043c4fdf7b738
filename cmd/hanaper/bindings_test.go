package main

import (
	"slices"
	"testing"

	"github.com/hanaper/hanaper/ceremony"
)

// TestIdleBindings: the bindings of a machine may have tokens that a script has no use for, and they are named.
func TestIdleBindings(t *testing.T) {
	script, err := ceremony.OpenScript("../../ceremony/testdata/golden/1.0/clone")
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadBindings("", "/lib/module.so")
	if err != nil {
		t.Fatal(err)
	}
	b.PINs = map[string]map[string]string{"last-year": {"so": "/run/pins/so"}}
	if idle, err := b.fit(script); err != nil || !slices.Equal(idle, []string{"last-year"}) {
		t.Errorf("%v, %v", idle, err)
	}
	b.PINs = nil
	if idle, err := b.fit(script); err != nil || len(idle) != 0 {
		t.Errorf("%v, %v", idle, err)
	}
	if b, err = loadBindings("", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := b.fit(script); err == nil {
		t.Error("no module is named for a token of the script, and nothing is said")
	}
}
