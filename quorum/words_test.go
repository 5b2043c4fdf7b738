package quorum

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestWordsVectors(t *testing.T) {
	for _, v := range []struct{ hex, words string }{
		{"", ""},
		{"E582", "topmost Istanbul"},
		{"82E5", "miser travesty"},
		{"E58294F2E9A227486E8B061B31CC528FD7FA3F19",
			"topmost Istanbul Pluto vagabond treadmill Pacific brackish dictator goldfish Medusa " +
				"afflict bravado chatter revolver Dupont midsummer stopwatch whimsical cowbell bottomless"},
		{"12b4b0057400076fa5c0f5cbf726ac65", "atlas politeness ruffled almighty indoors adroitness ahead hemisphere " +
			"reindeer recipe vapor revival virus caretaker ribcage glossary"},
	} {
		b, err := hex.DecodeString(v.hex)
		if err != nil {
			t.Fatal(err)
		}
		if got := Words(b); got != v.words {
			t.Errorf("%s: got %q, want %q", v.hex, got, v.words)
		}
	}
}

// The lists are alphabetical, without regard to case, and no word stands in both: a slip while copying would show.
func TestWordListProperties(t *testing.T) {
	seen := map[string]bool{}
	for i, list := range wordList {
		if len(list) != 256 {
			t.Fatalf("list %d has %d words", i, len(list))
		}
		for j := range list[1:] {
			// The published list itself has this one pair out of order.
			if a, b := strings.ToLower(list[j]), strings.ToLower(list[j+1]); a >= b && a != "applicant" {
				t.Errorf("list %d: %s before %s", i, a, b)
			}
		}
		for _, w := range list {
			if seen[strings.ToLower(w)] {
				t.Errorf("%q stands twice", w)
			}
			seen[strings.ToLower(w)] = true
		}
	}
}
