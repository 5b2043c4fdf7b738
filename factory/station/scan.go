package station

import (
	"context"
	"regexp"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
)

// Scanner enrols boards one after the other, as their labels are read.
type Scanner struct {
	base *Station
	last string
}

// NewScanner checks the configuration; {id} must stand in device.token, if there is one, and in import, or each board would get the last one's.
func NewScanner(conf *Config, w With) (*Scanner, error) {
	base, err := load(conf, w)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(conf.Import, "{id}") {
		return nil, advice.New(advice.Usage, "write it as devices/{id}", "the import folder has no {id} in it")
	}
	return &Scanner{base: base}, nil
}

// Board enrols the board whose label says text; nil without an error for an empty line, and for the label that was read just before.
func (s *Scanner) Board(ctx context.Context, text string) (*Result, error) {
	id := strings.TrimSpace(text)
	if id == "" {
		return nil, nil
	}
	if id == s.last {
		s.base.done("%q was read twice; it is enrolled", id)
		return nil, nil
	}
	one, err := s.base.forBoard(Board{ID: id, Where: "label"})
	if err == nil {
		err = one.checkRequest()
	}
	if err != nil {
		return nil, err
	}
	r, err := one.Enroll(ctx)
	if err == nil {
		s.last = id
	}
	return r, err
}

// idCheckVIN is the check digit of a vehicle identification number.
const idCheckVIN = "vin"

// checkID holds a device id to the label's form: device.id_pattern and device.id_check. A scanner that misreads one character is noticed by a
// check digit, and by nothing else: any other text is a fine id to hanaperd.
func (c *Config) checkID() error {
	d := &c.Device
	if d.IDPattern != "" {
		p, err := regexp.Compile(`^(?:` + d.IDPattern + `)$`)
		if err != nil {
			return advice.New(advice.Usage, "a regular expression for the whole id", "device.id_pattern: %w", err)
		}
		if d.ID != "" && !p.MatchString(d.ID) {
			return advice.New(advice.Refused, "read the label again; see device.id_pattern", "device id %.80q is not of the form that labels have here", d.ID)
		}
	}
	switch d.IDCheck {
	case "":
	case idCheckVIN:
		if d.ID != "" && !vinHolds(d.ID) {
			return advice.New(advice.Refused, "read the label again", "device id %.80q is no VIN: 17 letters and digits without I, O, Q, the ninth of which is the check digit", d.ID)
		}
	default:
		return advice.New(advice.Usage, "vin, or leave it out", "device.id_check is %.40q", d.IDCheck)
	}
	return nil
}

// vinHolds checks a VIN's digit (ISO 3779; 49 CFR 565.15): letters have values, places have weights, and the sum modulo 11 is the ninth place, X for 10.
func vinHolds(vin string) bool {
	const values = "0123456789.ABCDEFGH..JKLMN.P.R..STUVWXYZ"
	weights := [17]int{8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2}
	if len(vin) != len(weights) {
		return false
	}
	sum := 0
	for i := range weights {
		at := strings.IndexByte(values, vin[i])
		if at < 0 || vin[i] == '.' {
			return false
		}
		sum += at % 10 * weights[i]
	}
	return vin[8] == "0123456789X"[sum%11]
}
