package piv

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// seeds are answers of cards, whole and cut short.
func seeds(f *testing.F) {
	point := append([]byte{4}, bytes.Repeat([]byte{7}, 64)...)
	for _, s := range [][]byte{
		nil, {0x53}, {0x53, 0x81}, {0x53, 0x82, 1}, {0x53, 0x83, 0, 0, 1, 0}, {0x7f}, {0x7f, 0x49, 0}, {0x5f, 0xc1, 2, 1, 0xff}, {0x53, 5, 1},
		encode(0x7f49, encode(0x86, point)), encode(0x7f49, encode(0x81, bytes.Repeat([]byte{0xff}, 256)), encode(0x82, []byte{1, 0, 1})),
		encode(0x53, encode(0x70, make([]byte, 300)), encode(0x71, []byte{0}), encode(0xfe)),
	} {
		f.Add(s)
	}
}

// FuzzAnswer: no answer of a card makes the parser panic, and what it reads is what was written.
func FuzzAnswer(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if tag, value, rest, err := decode(data); err == nil {
			again, same, more, err := decode(append(encode(tag, value), rest...))
			if err != nil || again != tag && tag&0x1f != 0x1f || !bytes.Equal(same, value) || !bytes.Equal(more, rest) {
				t.Errorf("%x: %x %x %x, %v", data, again, same, more, err)
			}
		}
		for _, a := range Algorithms() {
			if pub, err := parsePublic(data, a); err == nil && hsm.AlgorithmOf(pub) != a {
				t.Errorf("%s: %T", a, pub)
			}
		}
	})
}

// The number of no agency, as the cards of everybody else have it.
func TestNobody(t *testing.T) {
	if got := hex.EncodeToString(nobody()); got != "d4e739da739ced39ce739d836858210842108421c84210c3eb" {
		t.Error(got)
	}
}

// endless is a card that always has more to say.
type endless struct{ answers int }

func (e *endless) transmit([]byte) ([]byte, error) {
	if e.answers++; e.answers > 1<<20 {
		panic("it is asked for ever")
	}
	return []byte{0x61, 0}, nil
}

func (e *endless) close() {}

// A card that promises more and gives nothing is not asked for ever.
func TestEndlessAnswer(t *testing.T) {
	e := &endless{}
	c := &Card{reader: "r", link: e}
	if _, err := c.GUID(); err == nil || e.answers > 1000 {
		t.Errorf("%d answers, %v", e.answers, err)
	}
}
