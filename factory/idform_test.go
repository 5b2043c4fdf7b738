package factory

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

// TestIDPatterns: ids from the standards and from products, and the same with one character changed.
func TestIDPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		good    []string
		bad     []string
	}{
		// The VINs are the example of 49 CFR 565.15 itself, the one that consists of the digit 1, and those of manufacturers' documents.
		{"vin", []string{"1M8GDM9AXKP042788", "11111111111111111", "5GZCZ43D13S812715", "1HGCM82633A004352", "LSGPC52U6AF102554"},
			[]string{"1M8GDM9AYKP042788", "1M8GDM9A0KP042788", "1M8GDM9AXKP042789", "1M8GDM9AXKP04278", "1M8GDM9AXKP0427880", "1m8gdm9axkp042788", "IM8GDM9AXKP042788", "1M8GDM9AXKP04278O", "1HGCM82633A004325"}},
		{"vin-form", []string{"1M8GDM9A0KP042788", "WVWZZZ1JZXW000001"}, []string{"WVWZZZ1JZXW00000", "WVWZZZIJZXW000001", "wvwzzz1jzxw000001"}},
		{"uuid", []string{"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"},
			[]string{"f81d4fae-7dec-11d0-a765-00a0c91e6bf", "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}", "f81d4fae7dec11d0a76500a0c91e6bf6", "F81d4fae-7dec-11d0-a765-00a0c91e6bf6", "g81d4fae-7dec-11d0-a765-00a0c91e6bf6"}},
		{"luhn", []string{"79927398713", "18", "4539578763621486"}, []string{"79927398710", "79927398731", "8", "7992739871x", "", "0x18"}},
		{"imei", []string{"490154203237518"}, []string{"490154203237517", "49015420323751", "4901542032375180"}},
		{"gs1", []string{"4006381333931", "73513537", "036000291452", "10614141000415", "106141412345678908"}, []string{"4006381333932", "4006381333391", "400638133393", "4006381333931 "}},
		{"mod37-36", []string{"A12425GABC1234002M"}, []string{"A12425GABC1234002N", "A12425GABC1234020M", "a12425gabc1234002m", "M"}},
		{"eui48", []string{"00:1b:44:11:3a:b7", "001B44113AB7", "00-1B-44-11-3A-B7"}, []string{"00:1b:44:11:3a", "00:1b-44:11:3a:b7", "00:1B:44:11:3a:b7", "001b44113ab"}},
		{"eui64", []string{"001b44fffe113ab7", "00:1b:44:ff:fe:11:3a:b7"}, []string{"001b44113ab7", "00:1b:44:ff:fe:11:3a"}},
		{"decimal", []string{"0", "0042"}, []string{"", "4 2", "4a", "٤"}},
		{"hex", []string{"00ff", "00FF"}, []string{"", "00fF", "0x00"}},
	} {
		f, err := newIDForm(IDConfig{Pattern: c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range c.good {
			if no := f.check(id); no != nil {
				t.Errorf("%s: %q: %v", c.pattern, id, no)
			}
		}
		for _, id := range c.bad {
			if no := f.check(id); no == nil || no.Code != CodePolicy || no.Hint == "" {
				t.Errorf("%s: %q passes: %v", c.pattern, id, no)
			}
		}
	}
	if len(IDPatterns()) != 11 {
		t.Errorf("%d patterns, of which this test knows 11", len(IDPatterns()))
	}
	// Whatever one digit of a number with a check digit is misread as, is noticed; with Luhn's, GS1's and the VIN's.
	for pattern, id := range map[string]string{"luhn": "79927398713", "gs1": "4006381333931", "vin": "1M8GDM9AXKP042788", "mod37-36": "A12425GABC1234002M"} {
		f, _ := newIDForm(IDConfig{Pattern: pattern})
		for i := range id {
			for _, d := range "0123456789" {
				if other := id[:i] + string(d) + id[i+1:]; '0' <= id[i] && id[i] <= '9' && other != id && f.check(other) == nil {
					t.Errorf("%s: %s passes for %s", pattern, other, id)
				}
			}
		}
	}
}

// TestIDForm: a prefix, a length and an expression hold beside the pattern; each refusal says its own.
func TestIDForm(t *testing.T) {
	f, err := newIDForm(IDConfig{Pattern: "luhn", Prefix: "ACME-", Length: 12, Match: `ACME-1.*`})
	if err != nil {
		t.Fatal(err)
	}
	if no := f.check("ACME-100000000008"); no != nil {
		t.Error(no)
	}
	for id, hint := range map[string]string{"ACME-200000000006": "matches", "ACME-10000000009": "17 characters", "ACME-100000000009": "scan the id again", "ACME-10000000000x": "Luhn"} {
		if no := f.check(id); no == nil || !strings.Contains(no.Hint, hint) {
			t.Errorf("%s: %v", id, no)
		}
	}
	if f, err = newIDForm(IDConfig{Pattern: "hex", Prefix: "X"}); err != nil || f.check("00") == nil || !strings.Contains(f.check("00").Hint, `"X" before`) {
		t.Errorf("%v", err)
	}
	for name, bad := range map[string]IDConfig{"nothing": {}, "unknown": {Pattern: "vim"}, "a prefix of nothing": {Prefix: "A", Match: "A.*"}, "a length": {Pattern: "hex", Length: -1}, "too long": {Pattern: "hex", Length: 60, Prefix: "ACME-"}, "no expression": {Match: "("}} {
		if f, err := newIDForm(bad); f != nil || advice.KindOf(err) != advice.Usage || advice.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzIDForm(f *testing.F) {
	for _, s := range []string{"1M8GDM9AXKP042788", "79927398713", "4006381333931", "A12425GABC1234002M", "", "\xff", "00:1b:44:11:3a:b7"} {
		f.Add(s)
	}
	forms := map[string]*idForm{}
	for _, name := range IDPatterns() {
		form, err := newIDForm(IDConfig{Pattern: name})
		if err != nil {
			f.Fatal(err)
		}
		forms[name] = form
	}
	f.Fuzz(func(t *testing.T, id string) {
		for name, form := range forms {
			if no := form.check(id); no == nil && (strings.ContainsAny(id, " \n\x00") || len(id) > 48) {
				t.Errorf("%s takes %q", name, id)
			}
		}
	})
}
