package ceremony

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/strict"
)

// maxLeaf bounds a transcript entry, in bytes.
const maxLeaf = 64 << 10

// Head is what every entry of a transcript begins with. A leaf is one JSON object in exactly the form that
// encoding/json gives the struct of its kind, so that one statement has one encoding; docs/spec/transcript.md.
type Head struct {
	// Kind names the struct.
	Kind string `json:"kind"`
	// Step is the script's step at work, from 1; 0 before the first and after the last.
	Step int `json:"step"`
	// At is the asserted time plus what has passed since it was asserted; it never falls.
	At string `json:"at"`
	// Rehearsal marks every entry of a rehearsal.
	Rehearsal bool `json:"rehearsal,omitempty"`
}

// leaf is an entry of a transcript. Head has the answers of a kind that has nothing to say.
type leaf interface {
	head() *Head
	// show adds what the printed form and the screen say of the entry beside the words of its step.
	show(*shown)
	// record says in the printed record what the entry holds, where its plain fields do not say it well.
	record() string
	// left adds what the act behind the entry leaves in an aborted ceremony.
	left(*leftover)
}

func (h *Head) head() *Head  { return h }
func (*Head) show(*shown)    {}
func (*Head) record() string { return "" }
func (*Head) left(*leftover) {}

// leafKind is a kind of leaf.
type leafKind struct {
	// since is the format from which transcripts have it.
	since format.Version
	empty func() leaf
}

// leafKinds are all kinds. Each is registered in the file that has its struct.
var leafKinds = map[string]leafKind{}

// register makes a kind of leaf of the first format known. It gives true, so that it can stand in the declaration of a
// variable.
func register[L any, P interface {
	*L
	leaf
}](kind string) bool {
	return registerSince[L, P](kind, format.First)
}

// registerSince is register for a kind that a minor format added.
func registerSince[L any, P interface {
	*L
	leaf
}](kind string, since format.Version) bool {
	if _, ok := leafKinds[kind]; ok {
		panic("ceremony: two kinds of leaves are called " + kind)
	}
	leafKinds[kind] = leafKind{since, func() leaf { return P(new(L)) }}
	return true
}

func encodeLeaf(l leaf) []byte {
	data, err := json.Marshal(l)
	if err != nil {
		panic("ceremony: a leaf of plain data does not encode: " + err.Error())
	}
	return data
}

// decodeLeaf reads data into l and refuses what l would not encode to, byte for byte.
func decodeLeaf(data []byte, l leaf, kind string) error {
	if len(data) > maxLeaf {
		return fmt.Errorf("larger than %d bytes", maxLeaf)
	}
	// What encodes to the very same bytes has no key twice, none that is unknown and nothing behind it. Otherwise strict says
	// what is wrong; it takes several times as long.
	same := json.Unmarshal(data, l) == nil && bytes.Equal(encodeLeaf(l), data)
	if !same {
		if err := strict.JSON(kind, data, l); err != nil {
			return err
		}
	}
	if l.head().Kind != kind {
		return fmt.Errorf("is a %.20q where the script wants %q", l.head().Kind, kind)
	}
	if !same {
		return errors.New("is not in its one form")
	}
	return checkTexts(reflect.ValueOf(l).Elem())
}

// headOf reads what kind of leaf data is.
func headOf(data []byte) (Head, error) {
	var h Head
	if len(data) > maxLeaf {
		return h, advice.New(advice.Unverified, "", "larger than %d bytes", maxLeaf)
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return h, advice.New(advice.Unverified, "", "not a JSON object: %w", err)
	}
	return h, nil
}

// readLeaf reads a leaf of whatever kind it says it is.
func readLeaf(data []byte) (leaf, error) {
	h, err := headOf(data)
	if err != nil {
		return nil, err
	}
	k, ok := leafKinds[h.Kind]
	if !ok {
		return nil, advice.New(advice.Unverified, "", "is of an unknown kind, %.20q", h.Kind)
	}
	l := k.empty()
	return l, decodeLeaf(data, l, h.Kind)
}
