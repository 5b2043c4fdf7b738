package ceremony

import (
	"errors"
	"slices"
	"unicode/utf8"
)

const kindRemarks = "remarks"

var _ = register[remarksLeaf](kindRemarks)

// When remarks are asked for.
const (
	AtBegin = "begin"
	AtEnd   = "end"
)

// The bounds of remarks.
const (
	maxRemarks = 100
	maxRemark  = 2000
)

// Remark is what the people present want to have recorded.
type Remark struct {
	// About is present, seal, exception, deviation or note.
	About string `json:"about"`
	Text  string `json:"text"`
}

var remarkSubjects = []string{"present", "seal", "exception", "deviation", "note"}

// remarksLeaf: who was present besides the officers, bag and seal numbers at the beginning; exceptions and deviations at
// the end.
type remarksLeaf struct {
	Head
	When    string   `json:"when"`
	Remarks []Remark `json:"remarks"`
}

func (s *Session) remarks(when string) error {
	var l remarksLeaf
	if err := s.outcome(&l, kindRemarks, func(bool) error {
		l.When, l.Remarks = when, []Remark{}
		said, err := s.how.remarks(when)
		l.Remarks = append(l.Remarks, said...)
		return err
	}, func() error {
		if l.When != when {
			return errors.New("is not what may stand here")
		}
		return checkRemarks(l.Remarks)
	}); err != nil {
		return err
	}
	s.said = append(s.said, l.Remarks...)
	return nil
}

func checkRemarks(list []Remark) error {
	if len(list) > maxRemarks {
		return malformed("more than %d remarks", maxRemarks)
	}
	for _, r := range list {
		if !slices.Contains(remarkSubjects, r.About) {
			return malformed("a remark about %.40q: use one of %v", r.About, remarkSubjects)
		}
		if r.Text == "" || len(r.Text) > maxRemark || !utf8.ValidString(r.Text) {
			return malformed("a remark has 1 to %d bytes of text", maxRemark)
		}
		for _, c := range r.Text {
			if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
				return malformed("a remark holds control characters")
			}
		}
	}
	return nil
}

// whole performs the script between the remarks of the people present.
func (s *Session) whole() error {
	if err := s.remarks(AtBegin); err != nil {
		return err
	}
	if err := s.perform(); err != nil {
		return err
	}
	if err := s.findAgain(); err != nil {
		return err
	}
	return s.remarks(AtEnd)
}
