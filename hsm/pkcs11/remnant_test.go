package pkcs11_test

import (
	"encoding/hex"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// TestClearRemnant: a public key without its private key is removed by label and id; a whole pair is left alone.
func TestClearRemnant(t *testing.T) {
	b := board(t)
	token := open(t, b)
	whole, half := hsm.Query{Label: "whole", ID: []byte("whole")}, hsm.Query{Label: "half", ID: []byte("half")}
	for _, q := range []hsm.Query{whole, half} {
		if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: q.Label, ID: q.ID, Algorithm: hsm.P256}); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, "pkcs11-tool", "--module", b.Module, "--token-label", b.Label, "--login", "--pin", string(b.PIN), "--delete-object", "--type", "privkey", "--id", hex.EncodeToString(half.ID))
	for _, c := range []struct {
		q     hsm.Query
		found bool
	}{{whole, false}, {hsm.Query{Label: "whole", ID: half.ID}, false}, {hsm.Query{Label: "half", ID: whole.ID}, false}, {half, true}, {half, false}} {
		if found, err := token.ClearRemnant(t.Context(), c.q); err != nil || found != c.found {
			t.Errorf("%s: %v, %v, want %v", c.q, found, err, c.found)
		}
	}
	for _, q := range []hsm.Query{{Label: "half"}, {ID: half.ID}} {
		if _, err := token.ClearRemnant(t.Context(), q); err == nil {
			t.Errorf("%s was enough", q)
		}
	}
	if k, err := token.Key(t.Context(), whole); err != nil || k == nil {
		t.Errorf("the whole pair: %v", err)
	}
	if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: half.Label, ID: half.ID, Algorithm: hsm.P256}); err != nil {
		t.Errorf("generating in the place of what was cleared: %v", err)
	}
}
