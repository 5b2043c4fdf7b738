package ceremony

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// madeShares are shares that a step made, and whether a PIN was set to what they hold.
type madeShares struct {
	name string
	doc  *quorum.Shares
	pin  string
}

// What became of the PIN for which shares were made in a ceremony that was aborted.
const (
	// PINSet: the token opens with these shares alone.
	PINSet = "set"
	// PINPerhaps: the token opens with these shares, or with those before them. Nobody knows.
	PINPerhaps = "perhaps set"
	// PINNotSet: the ceremony ended before the PIN was touched.
	PINNotSet = "not set"
)

// WithheldShares are shares that only the transcript of an aborted ceremony holds: such a ceremony releases no file, but a PIN that
// it changed stays changed.
type WithheldShares struct {
	StatusShares
	// Purpose is user, so or wrap.
	Purpose string `json:"purpose"`
	// Token is the label of the token, Serial its serial number.
	Token  string `json:"token"`
	Serial string `json:"serial"`
	// PIN is PINSet, PINPerhaps or PINNotSet; empty for a wrapping key, under which an aborted ceremony leaves no backup.
	PIN string `json:"pin,omitempty"`
	// Data is the document. Each share in it is encrypted to its holder.
	Data []byte `json:"-"`
}

// withheldOf finds them.
func (f *inventory) withheldOf() (list []WithheldShares) {
	last := f.chain[len(f.chain)-1]
	there := map[string]bool{}
	for _, data := range last.files {
		there[hexSHA256(data)] = true
	}
	for _, v := range f.chain {
		if !v.aborted {
			continue
		}
		for _, m := range v.state().made {
			if _, replaced := last.state().superseded[m.doc.Digest()]; replaced || there[hexSHA256(m.doc.Data())] {
				continue
			}
			f.document(v, m.name, m.doc)
			w := WithheldShares{StatusShares: f.shares[m.doc.Digest()], Purpose: string(m.doc.Purpose()), Serial: m.doc.TokenSerial(), Token: f.token(m.doc.TokenSerial()).Label, PIN: m.pin, Data: m.doc.Data()}
			list = append(list, w)
		}
	}
	return list
}

// wayOut is what officers do to get at withheld shares.
const wayOut = "take them out of its transcript with `hanaper ceremony shares`, and give them to `hanaper ceremony new` with --shares"

// sayWithheld says which PINs hang on shares that no file holds.
func (f *inventory) sayWithheld(say func(string, ...any)) {
	for _, w := range f.status.Withheld {
		pin, before := "user PIN", ""
		if w.Purpose == string(quorum.PurposeSO) {
			pin = "security officer PIN"
		}
		i := slices.IndexFunc(f.status.Tokens, func(t StatusToken) bool { return t.Serial == w.Serial })
		if i >= 0 {
			was := f.status.Tokens[i].User
			if w.Purpose == string(quorum.PurposeSO) {
				was = f.status.Tokens[i].SO
			}
			if before = "that it had before"; was != nil {
				before = "of the shares " + show.Text(was.Name)
			}
		}
		switch w.PIN {
		case PINSet:
			say("the %s of token %s was changed by the ceremony %s, which was aborted, and no file has its shares %s: %s", pin, show.Text(w.Token), show.Text(w.Ceremony), show.Text(w.Name), wayOut)
		case PINPerhaps:
			say("the ceremony %s was aborted while it changed the %s of token %s, which is the one %s, or the one of the new shares %s: %s. Name one of them in the script, and the other if the token refuses that PIN: each costs one try",
				show.Text(w.Ceremony), pin, show.Text(w.Token), before, show.Text(w.Name), wayOut)
		}
	}
}

// perhaps gives the withheld shares that may hold a PIN of a token, beside those that the status names.
func (s *Status) perhaps(serial string, p quorum.Purpose) *WithheldShares {
	for i, w := range s.Withheld {
		if w.Serial == serial && w.Purpose == string(p) && w.PIN == PINPerhaps {
			return &s.Withheld[i]
		}
	}
	return nil
}

// fromTranscript says how to get at a file that an aborted ceremony did not release.
func (s *Status) fromTranscript(sum string) string {
	if slices.ContainsFunc(s.Withheld, func(w WithheldShares) bool { return strings.TrimPrefix(w.SHA256, "sha256:") == sum }) {
		return wayOut
	}
	return fmt.Sprintf("look for it in the folders of the ceremonies before %s, and write the script by hand", show.Text(s.Ceremony))
}
