package journal

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Cosignatures that transparency-dev/formats makes are taken, and every change of one is not.
func TestCosignatureAgainstStockTools(t *testing.T) {
	l, _ := newLog(t, manyLeaves(9)...)
	s, err := NoteSigner("journal.example/test", checkpointKeys(t)["Ed25519"])
	if err != nil {
		t.Fatal(err)
	}
	skey, plain, err := note.GenerateKey(nil, "witness.example")
	if err != nil {
		t.Fatal(err)
	}
	stock, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := fnote.VKeyToCosignatureV1(plain)
	if err != nil {
		t.Fatal(err)
	}
	data, err := SignCheckpoint(l.Checkpoint(), s, stock)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseWitnessKey(vkey)
	if err != nil || w.String() != vkey || w.KeyHash() != stock.KeyHash() {
		t.Fatalf("%v, %v", w, err)
	}
	at, ok := Cosigned(data, w)["witness.example"]
	if !ok || time.Since(at) > time.Minute {
		t.Fatalf("%v, %v", at, ok)
	}
	if _, err := VerifyCheckpoint(data, w); err != nil {
		t.Error(err)
	}
	for i := range data {
		changed := []byte(string(data))
		changed[i] ^= 1
		again, ok := Cosigned(changed, w)["witness.example"]
		// What stands in the line of the other signer is not the witness's.
		if ok && (again != at || !strings.HasPrefix(string(changed[strings.Index(string(data), "\n\n"):]), "\n\n")) {
			t.Fatalf("byte %d changed: accepted", i)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", plain, vkey[:len(vkey)-4], strings.Replace(vkey, "witness", "other", 1), "a b" + vkey, "x+00000000+" + base64.StdEncoding.EncodeToString(raw)} {
		if _, err := ParseWitnessKey(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}
