package main

import "testing"

// TestUnformula: no cell of a CSV begins with what a spreadsheet takes for a formula, and others stay as they are.
func TestUnformula(t *testing.T) {
	for cell, want := range map[string]string{
		"": "", "vin-0001": "vin-0001", "a=1": "a=1", "5f3a": "5f3a", "2026-11-26T00:00:00Z": "2026-11-26T00:00:00Z",
		"=1+1": "'=1+1", "+49": "'+49", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", " =1": "' =1", "\r=1": "'\r=1", "|x": "'|x", "%x": "'%x",
		"\u00a0=1": "'\u00a0=1", "\uff1d1": "'\uff1d1",
	} {
		if got := unformula(cell); got != want {
			t.Errorf("%q became %q, want %q", cell, got, want)
		}
	}
}
