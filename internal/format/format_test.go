package format

import "testing"

func TestVersion(t *testing.T) {
	for _, bad := range []string{"", "1", "1.", ".1", "0.1", "01.0", "1.00", "1.0 ", "-1.0", "1.0.0", "1.x", "99999.0", "+1.0"} {
		if v, err := Parse(bad); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
	for _, good := range []string{"1.0", "1.12", "12.0"} {
		if v, err := Parse(good); err != nil || v.String() != good {
			t.Errorf("%q: %v, %v", good, v, err)
		}
	}
	if !First.Before(Must("1.1")) || !Must("1.9").Before(Must("1.10")) || !Must("1.9").Before(Must("2.0")) || Must("2.0").Before(Must("1.9")) || First.Before(First) || (Version{}).Before(First) {
		t.Error("versions are in another order")
	}
}
