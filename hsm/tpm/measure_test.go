package tpm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
)

func stateOf(t *testing.T, m *tpm.Measurement) attest.PCRState {
	t.Helper()
	values := map[int][]byte{}
	for n, v := range m.PCRs {
		values[n] = v
	}
	s, err := attest.NewPCRState("now", "sha256", values)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMeasure: the registers are quoted for what was asked, by a key that the same TPM makes again; an extension shows, and nothing else
// passes: not another question, another value, another TPM's key. tpm2_pcrread reads the same values.
func TestMeasure(t *testing.T) {
	ctx, c := context.Background(), tpmtest.New(t)
	m, err := tpm.Measure(ctx, c.Socket, []byte("question"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := attest.CheckQuote(m.AttestationKey, m.Statement, m.Signature, []byte("question"), stateOf(t, m))
	if err != nil || len(key) != 64 || len(m.PCRs) != 16 || len(m.Endorsement) == 0 {
		t.Fatalf("%q, %v, %d registers, endorsement of %d bytes", key, err, len(m.PCRs), len(m.Endorsement))
	}
	if _, err := attest.CheckQuote(m.AttestationKey, m.Statement, m.Signature, []byte("another"), stateOf(t, m)); !errors.Is(err, attest.ErrStale) {
		t.Errorf("for another question: %v", err)
	}
	other := stateOf(t, m)
	other.Values[11] = bytes.Repeat([]byte{1}, 32)
	if _, err := attest.CheckQuote(m.AttestationKey, m.Statement, m.Signature, []byte("question"), other); !errors.Is(err, attest.ErrPCR) {
		t.Errorf("for another value: %v", err)
	}
	stranger, err := tpm.Measure(ctx, tpmtest.Bare(t).Socket, []byte("question"))
	if err != nil || stranger.Endorsement != nil {
		t.Fatal(err)
	}
	if _, err := attest.CheckQuote(stranger.AttestationKey, m.Statement, m.Signature, []byte("question"), stateOf(t, m)); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("by another TPM's key: %v", err)
	}

	digest := sha256.Sum256([]byte("a shell"))
	if err := tpm.Extend(ctx, c.Socket, 15, digest); err != nil {
		t.Fatal(err)
	}
	after, err := tpm.Measure(ctx, c.Socket, []byte("question"))
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(append(bytes.Clone(m.PCRs[15]), digest[:]...))
	if !bytes.Equal(after.PCRs[15], want[:]) || !bytes.Equal(after.PCRs[14], m.PCRs[14]) {
		t.Errorf("register 15 is %x, not %x", after.PCRs[15], want)
	}
	if again, err := attest.CheckQuote(after.AttestationKey, after.Statement, after.Signature, []byte("question"), stateOf(t, after)); err != nil || again != key {
		t.Errorf("the same TPM has another key: %q, %q, %v", again, key, err)
	}
	out := run(t, c, "tpm2_pcrread", "sha256:15", "-o", filepath.Join(t.TempDir(), "pcr"))
	if !bytes.Contains(bytes.ToLower([]byte(out)), []byte(hex.EncodeToString(want[:]))) {
		t.Errorf("tpm2_pcrread says %s", out)
	}

	if _, err := tpm.Measure(ctx, filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, hsm.ErrGone) {
		t.Errorf("without a TPM: %v", err)
	}
	for _, n := range []int{-1, 16, 23} {
		if err := tpm.Extend(ctx, c.Socket, n, digest); !errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("register %d: %v", n, err)
		}
	}
}
