package gateway

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hanaper/hanaper/trust"
)

const (
	// maxWhy and maxNotes bound what an operator writes, in bytes.
	maxWhy   = 1000
	maxNotes = 4000
	// MaxImport bounds one list of devices.
	MaxImport = 200_000
)

// OperatorVerbs are the acts that an operator does on one device.
func OperatorVerbs() []Verb {
	return []Verb{Block, Unblock, Forget, Retire, Reinstate, AllowRekey, Note, Unflag}
}

// Check says whether an act is well formed; whether it may be done is for the registry to say.
func (a *Act) Check() error {
	if !slices.Contains(OperatorVerbs(), a.Verb) {
		return fmt.Errorf("%.40q is no act", a.Verb)
	}
	if err := trust.CheckEnvironment(a.Environment); err != nil {
		return err
	}
	if err := CheckName(a.Device); err != nil {
		return err
	}
	if err := checkWords("the note", a.Text, maxNotes); err != nil {
		return err
	}
	return checkWords("why", a.Why, maxWhy)
}

func checkWords(what, text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("%s has %d bytes, and may have %d", what, len(text), most)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		return fmt.Errorf("%s holds control characters", what)
	}
	return nil
}

// CheckImport says whether a list of devices is well formed: no id stands twice, in whatever case.
func CheckImport(list []Registration, by By) error {
	if len(list) == 0 || len(list) > MaxImport {
		return fmt.Errorf("a list has 1 to %d devices, this one %d", MaxImport, len(list))
	}
	seen := make(map[[2]string]int, len(list))
	for i, one := range list {
		if err := trust.CheckEnvironment(one.Environment); err != nil {
			return fmt.Errorf("device %d: %w", i+1, err)
		}
		if err := CheckName(one.Device); err != nil {
			return fmt.Errorf("device %d: %w", i+1, err)
		}
		if one.Generation < 0 || one.Generation > 1<<31-1 {
			return fmt.Errorf("device %d: %d is no generation", i+1, one.Generation)
		}
		if err := checkWords("its notes", one.Notes, maxNotes); err != nil {
			return fmt.Errorf("device %d: %w", i+1, err)
		}
		key := [2]string{one.Environment, strings.ToLower(one.Device)}
		if first, twice := seen[key]; twice {
			return fmt.Errorf("devices %d and %d are the same: %q", first, i+1, one.Device)
		}
		seen[key] = i + 1
	}
	return checkWords("why", by.Why, maxWhy)
}
