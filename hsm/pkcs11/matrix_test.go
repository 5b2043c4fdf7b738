package pkcs11_test

import (
	"errors"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
	"github.com/hanaper/hanaper/internal/advice"
)

// The matrix: every peer is asked for everything that Hanaper does with a token. What a peer cannot do is stated with the message that
// people then see (expected, in matrix_expected_test.go), and docs/pkcs11.md shows the table of this very run.

// capability is one row. do answers nil where it works; note is then what else people see, if anything. An error is what they see
// where it does not. What must never happen, whatever the peer, is reported through the trial's T.
type capability struct {
	group, name string
	do          func(x *trial) (note string, err error)
}

// trial is one peer under test.
type trial struct {
	*testing.T
	p     *peertest.Peer
	token *pkcs11.Token // nil while it is closed
	again bool          // the next row opens the token anew
	// made are the labels of keys by algorithm, whoever made them.
	made map[hsm.Algorithm]string
}

// outcome is one cell.
type outcome struct {
	works   bool
	message string
}

// TestMatrix runs every row on every peer, and compares each cell with what is expected, and the table with docs/pkcs11.md. With
// -update it writes the page; what is expected stands in the test all the same.
func TestMatrix(t *testing.T) {
	var columns []column
	for _, s := range peertest.All() {
		t.Run(s.Name, func(t *testing.T) {
			p := s.Start(t)
			columns = append(columns, column{p: p, cells: runPeer(t, p)})
		})
	}
	if t.Failed() || len(columns) != len(peertest.All()) {
		return // a part of the table is no table
	}
	checkPage(t, columns)
}

func runPeer(t *testing.T, p *peertest.Peer) map[string]outcome {
	x := &trial{T: t, p: p, made: map[hsm.Algorithm]string{}}
	for a, label := range p.Keys {
		x.made[a] = label
	}
	cells := map[string]outcome{}
	left := map[string]string{}
	for name, message := range expected[p.Name] {
		left[name] = message
	}
	for _, c := range capabilities {
		x.open()
		x.again = x.p.Tidy != nil
		begin := time.Now()
		note, err := c.do(x)
		t.Logf("%5d ms %s", time.Since(begin).Milliseconds(), c.name)
		if x.again {
			x.close()
		}
		got := outcome{works: err == nil, message: plain(note)}
		if err != nil {
			got.message = plain(printed(err))
		}
		cells[c.name] = got
		want, stated := left[c.name]
		delete(left, c.name)
		switch {
		case !stated && (!got.works || got.message != ""):
			t.Errorf("%s: nothing is expected but that it works, and it says:\n%s", c.name, got.message)
		case stated && got.message != want:
			t.Errorf("%s: it says\n%s\nexpected\n%s", c.name, got.message, want)
		}
	}
	x.close()
	for name := range left {
		t.Errorf("%s is expected, and no row", name)
	}
	return cells
}

// printed is an error as the programs print it.
func printed(err error) string {
	if hint := advice.Hint(err); hint != "" {
		return err.Error() + "; hint: " + hint
	}
	return err.Error()
}

var (
	tokens  = regexp.MustCompile(`token "[^"]*" \(serial [^)]*\)`)
	labels  = regexp.MustCompile(`"(made|officer|backup|of-five|second|PIV|SIGN)[- ][^"]*"`)
	folders = regexp.MustCompile(`/(?:[A-Za-z0-9._-]+/)+`)
	hexID   = regexp.MustCompile(`\bid [0-9a-f]{2,}`)
)

// plain leaves out of a message what differs from one run to the next.
func plain(s string) string {
	s = tokens.ReplaceAllString(s, "TOKEN")
	s = labels.ReplaceAllString(s, `"LABEL"`)
	s = folders.ReplaceAllString(s, "/.../")
	return hexID.ReplaceAllString(s, "id ID")
}

// open opens the token for the next row.
func (x *trial) open() {
	x.Helper()
	if x.token != nil {
		return
	}
	if x.p.Tidy != nil {
		x.p.Tidy()
	}
	token, err := pkcs11.Open(x.Context(), x.p.Config())
	if err != nil {
		x.Fatal(err)
	}
	x.token = token
}

func (x *trial) close() {
	x.Helper()
	if x.token != nil {
		if err := x.token.Close(); err != nil {
			x.Error(err)
		}
	}
	x.token = nil
}

// key is a key for signing, which is in the token or is made there as any other program would.
func (x *trial) key(a hsm.Algorithm) (hsm.Key, error) {
	label, ok := x.made[a]
	if !ok {
		if len(x.p.Keys) > 0 {
			return nil, errors.New("the card has no such key")
		}
		label = "made-" + string(a)
		if err := pkcs11.GenerateUnproven(x.token, label, []byte(label), a); err != nil {
			return nil, fmt.Errorf("another program asks the token for a key: %w", err)
		}
		x.made[a] = label
	}
	return x.token.Key(x.Context(), hsm.Query{Label: label})
}
