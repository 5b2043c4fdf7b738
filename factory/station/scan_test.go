package station

import "testing"

// TestVIN: check digits that are right, each digit misread, and what no VIN holds.
func TestVIN(t *testing.T) {
	for _, vin := range []string{"1M8GDM9AXKP042788", "11111111111111111", "5GZCZ43D13S812715"} {
		if !vinHolds(vin) {
			t.Errorf("%s is refused", vin)
		}
		for i := range vin {
			for _, c := range []byte("0123456789") {
				changed := []byte(vin)
				if changed[i] == c || changed[i] < '0' || changed[i] > '9' {
					continue
				}
				if changed[i] = c; vinHolds(string(changed)) {
					t.Errorf("%s for %s is taken", changed, vin)
				}
			}
		}
	}
	for _, no := range []string{"", "1M8GDM9AXKP04278", "1M8GDM9AXKP0427888", "IM8GDM9AXKP042788", "1m8gdm9axkp042788", "1M8GDM9AXKP04278O", "1M8GDM9AXKP04278\x00", "................."} {
		if vinHolds(no) {
			t.Errorf("%q is taken", no)
		}
	}
}
