package uptane

import (
	"strconv"
	"strings"
	"time"
)

// Period is a span of the calendar, as --expire-after gives it: 1Y3M5D is one year, three months and five days.
type Period struct{ Years, Months, Days int }

// ParsePeriod reads 1Y3M5D: years, months and days in this order, each optional, at least one.
func ParsePeriod(s string) (Period, error) {
	bad := func() (Period, error) {
		return Period{}, refused(hinted(ErrTime, "write years, months and days in this order, such as 1Y3M5D, 6M or 31D", "period %q is not understood", s))
	}
	var p Period
	rest := strings.ToUpper(s)
	if len(s) > 32 {
		return bad()
	}
	for _, unit := range []struct {
		letter string
		to     *int
	}{{"Y", &p.Years}, {"M", &p.Months}, {"D", &p.Days}} {
		digits, after, found := strings.Cut(rest, unit.letter)
		if !found || strings.ContainsAny(digits, "YMD") {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return bad()
		}
		*unit.to, rest = int(n), after
	}
	if rest != "" || p == (Period{}) {
		return bad()
	}
	return p, nil
}

// After adds the period to t: years and months first, where a day that the month lacks becomes the month's last (31
// January and 1M give 28 or 29 February), then days. The result is in UTC and whole seconds.
func (p Period) After(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Second)
	y, m, d := t.Date()
	first := time.Date(y+p.Years, m+time.Month(p.Months), 1, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(d, last)-1+p.Days)
}

// String is the form that ParsePeriod reads.
func (p Period) String() string {
	var b strings.Builder
	for _, u := range []struct {
		n      int
		letter byte
	}{{p.Years, 'Y'}, {p.Months, 'M'}, {p.Days, 'D'}} {
		if u.n != 0 {
			b.WriteString(strconv.Itoa(u.n))
			b.WriteByte(u.letter)
		}
	}
	if b.Len() == 0 {
		return "0D"
	}
	return b.String()
}
