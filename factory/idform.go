package factory

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
)

// IDConfig says what form a device id has: a pattern by name, or an expression of one's own.
type IDConfig struct {
	// Pattern is a name of IDPatterns. Prefix stands before what the pattern describes, Length is how many characters follow it; 0 for any.
	Pattern string `yaml:"pattern"`
	Prefix  string `yaml:"prefix"`
	Length  int    `yaml:"length"`
	// Match is a regular expression (RE2) that the whole id must match, instead of a pattern or beside it.
	Match string `yaml:"match"`
}

// idPattern is a form of ids that has a name.
type idPattern struct {
	form *regexp.Regexp
	// check is the check digit; nil where there is none. It may rely on the form.
	check func(id string) bool
	says  string
}

// idPatterns are the patterns by name. Each takes one spelling of an id only where its standard has one.
var idPatterns = map[string]idPattern{
	// RFC 9562, section 4: 8-4-4-4-12 hex digits. Ids are compared without case, so both are taken, but not mixed in one id.
	"uuid": {regexp.MustCompile(`^(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9A-F]{8}-(?:[0-9A-F]{4}-){3}[0-9A-F]{12})$`), nil, "a UUID, 8-4-4-4-12 hex digits"},
	// ISO 3779: 17 characters without I, O and Q. 49 CFR 565.15(c): the ninth is a check digit; it is required in North America and China.
	"vin":      {vinForm, vinCheck, "a VIN of 17 characters without I, O and Q, whose ninth is the check digit of 49 CFR 565.15"},
	"vin-form": {vinForm, nil, "a VIN of 17 characters without I, O and Q"},
	// ISO/IEC 7812-1, annex B.
	"luhn": {regexp.MustCompile(`^[0-9]{2,32}$`), luhn, "digits, the last of them a Luhn check digit"},
	// 3GPP TS 23.003, section 6.2.1.
	"imei": {regexp.MustCompile(`^[0-9]{15}$`), luhn, "an IMEI of 15 digits, the last of them a Luhn check digit"},
	// GS1 General Specifications, section 7.9: GTIN-8, -12, -13, -14 and SSCC.
	"gs1": {regexp.MustCompile(`^(?:[0-9]{8}|[0-9]{12,14}|[0-9]{18})$`), gs1, "a GTIN or SSCC of 8, 12, 13, 14 or 18 digits with the check digit of GS1"},
	// ISO/IEC 7064, MOD 37,36: digits and capital letters, the last of them the check character.
	"mod37-36": {regexp.MustCompile(`^[0-9A-Z]{2,48}$`), mod3736, "digits and capital letters, the last of them the check character of ISO 7064 MOD 37,36"},
	// IEEE 802: six octets, or eight, with - or : or nothing between them.
	"eui48":   {regexp.MustCompile(`^(?:[0-9a-f]{12}|[0-9A-F]{12}|[0-9a-f]{2}(?::[0-9a-f]{2}){5}|[0-9A-F]{2}(?::[0-9A-F]{2}){5}|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}|[0-9A-F]{2}(?:-[0-9A-F]{2}){5})$`), nil, "a MAC address of 12 hex digits"},
	"eui64":   {regexp.MustCompile(`^(?:[0-9a-f]{16}|[0-9A-F]{16}|[0-9a-f]{2}(?::[0-9a-f]{2}){7}|[0-9A-F]{2}(?::[0-9A-F]{2}){7}|[0-9a-f]{2}(?:-[0-9a-f]{2}){7}|[0-9A-F]{2}(?:-[0-9A-F]{2}){7})$`), nil, "an EUI-64 of 16 hex digits"},
	"decimal": {regexp.MustCompile(`^[0-9]{1,48}$`), nil, "digits"},
	"hex":     {regexp.MustCompile(`^(?:[0-9a-f]{1,48}|[0-9A-F]{1,48})$`), nil, "hex digits, in one case"},
}

// IDPatterns lists the names of the patterns.
func IDPatterns() []string {
	var names []string
	for name := range idPatterns {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var vinForm = regexp.MustCompile(`^[A-HJ-NPR-Z0-9]{17}$`)

// vinCheck holds the ninth character to the table of 49 CFR 565.15(c)(4): each character has a value, each place a weight, and the sum
// modulo 11 is the check digit, X for 10.
func vinCheck(id string) bool {
	weights := [17]int{8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2}
	const letters, values = "ABCDEFGHJKLMNPRSTUVWXYZ", "12345678123457923456789"
	sum := 0
	for i := range weights {
		value := int(id[i]) - '0'
		if at := strings.IndexByte(letters, id[i]); at >= 0 {
			value = int(values[at]) - '0'
		}
		sum += weights[i] * value
	}
	return id[8] == "0123456789X"[sum%11]
}

// luhn: every second digit from the right, but for the last, counts double, its digits added up.
func luhn(id string) bool {
	sum := 0
	for i := range len(id) {
		d := int(id[len(id)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// gs1: every second digit from the right, beginning behind the last, counts three times.
func gs1(id string) bool {
	sum := 0
	for i := range len(id) {
		d := int(id[len(id)-1-i] - '0')
		if i%2 == 1 {
			d *= 3
		}
		sum += d
	}
	return sum%10 == 0
}

// mod3736 is the hybrid system of ISO/IEC 7064, section 8.
func mod3736(id string) bool {
	p := 36
	for i := range len(id) {
		v := strings.IndexByte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", id[i])
		if i == len(id)-1 {
			return (p+v)%36 == 1
		}
		s := (p + v) % 36
		if s == 0 {
			s = 36
		}
		p = s * 2 % 37
	}
	return false
}

// idForm is an IDConfig that was checked.
type idForm struct {
	IDConfig
	pattern idPattern
	match   *regexp.Regexp
}

func newIDForm(c IDConfig) (*idForm, error) {
	f := &idForm{IDConfig: c}
	bad := func(hint, format string, args ...any) error {
		return advice.New(advice.Usage, hint, "id: "+format, args...)
	}
	if c.Pattern == "" && c.Match == "" {
		return nil, bad("name a pattern or an expression, or leave id out", "it has neither pattern nor match")
	}
	if c.Pattern == "" && (c.Prefix != "" || c.Length != 0) {
		return nil, bad("write both into match", "prefix and length go with a pattern")
	}
	if c.Pattern != "" {
		var ok bool
		if f.pattern, ok = idPatterns[c.Pattern]; !ok {
			return nil, bad("use one of "+strings.Join(IDPatterns(), ", "), "pattern %.40q is not known", c.Pattern)
		}
	}
	if c.Length < 0 || c.Length+len(c.Prefix) > maxWord {
		return nil, bad(fmt.Sprintf("an id has at most %d characters", maxWord), "length is %d", c.Length)
	}
	if c.Match != "" {
		var err error
		if f.match, err = regexp.Compile(`\A(?:` + c.Match + `)\z`); err != nil {
			return nil, bad("write an expression of RE2", "match: %w", err)
		}
	}
	return f, nil
}

// check refuses an id of another form.
func (f *idForm) check(id string) *Fault {
	no := func(hint string) *Fault {
		return fault(CodePolicy, hint, "device id %.80q is not of the form that its profile asks for", id)
	}
	if f.match != nil && !f.match.MatchString(id) {
		return no("put an id into the CN that matches " + f.Match)
	}
	if f.Pattern == "" {
		return nil
	}
	rest, ok := strings.CutPrefix(id, f.Prefix)
	switch {
	case !ok:
		return no(fmt.Sprintf("put %q before the id in the CN", f.Prefix))
	case f.Length != 0 && len(rest) != f.Length:
		return no(fmt.Sprintf("put an id of %d characters (%s) into the CN", len(f.Prefix)+f.Length, f.pattern.says))
	case !f.pattern.form.MatchString(rest):
		return no("put " + f.pattern.says + " into the CN")
	case f.pattern.check != nil && !f.pattern.check(rest):
		return no("scan the id again: its check digit does not fit; the profile asks for " + f.pattern.says)
	}
	return nil
}
