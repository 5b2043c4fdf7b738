package tpm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/advice"
)

// extend changes a register, as a program does that is started and was not before.
func extend(t testing.TB, c *tpmtest.Chip, register string) {
	t.Helper()
	run(t, c, "tpm2_pcrextend", register+":sha256="+strings.Repeat("ab", 32))
}

// TestSealedPIN: a PIN that is sealed to registers is given out while they have their values, on this TPM; otherwise the error says which
// changed and how to seal anew.
func TestSealedPIN(t *testing.T) {
	maker := tpmtest.NewManufacturer(t)
	c, other := maker.New(t), maker.New(t)
	file := filepath.Join(t.TempDir(), "pin")
	s := tpm.Seal{Device: c.Socket, PCRs: []int{0, 2, 7}, For: "token roots", File: file}
	if err := tpm.SealPIN(bg, tpm.Seal{Device: c.Socket, File: file}, []byte(pin)); advice.KindOf(err) != advice.Usage {
		t.Errorf("sealed to nothing: %v", err)
	}
	if err := tpm.SealPIN(bg, s, []byte(pin)); err != nil {
		t.Fatal(err)
	}
	if err := tpm.SealPIN(bg, s, []byte(pin)); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	data, err := os.ReadFile(file)
	if st, e := os.Stat(file); err != nil || e != nil || st.Mode().Perm() != 0o600 || strings.Contains(string(data), pin) {
		t.Fatal(err, e)
	}
	source := hsm.PINFile(hsm.SealedPrefix + file)
	unseal := func() error {
		got, err := source(bg, hsm.TokenInfo{Label: "roots", Serial: "1"})
		if err == nil && string(got) != pin {
			t.Errorf("another PIN: %s", got)
		}
		return err
	}
	if err := unseal(); err != nil {
		t.Fatal(err)
	}
	c.Stop()
	c.Start()
	if err := unseal(); err != nil {
		t.Fatalf("after a start: %v", err)
	}
	// A store opens with it; the URI says where it is.
	u, _ := newStore(t, c, tpm.NewStore{})
	u.PINSource = hsm.SealedPrefix + file
	if u, err = hsm.ParseURI(u.String()); err != nil {
		t.Fatal(err)
	}
	tok, err := tpm.Open(bg, tpm.Config{URI: u})
	if err != nil {
		t.Fatal(err)
	}
	_ = tok.Close()

	extend(t, c, "7")
	if err := unseal(); !errors.Is(err, tpm.ErrPCRs) || advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), "PCR 7 (Secure Boot policy)") ||
		strings.Contains(err.Error(), "PCR 0") || !strings.Contains(advice.Hint(err), "seal-pin --replace") {
		t.Errorf("a changed register: %v, %s", err, advice.Hint(err))
	}
	s.Replace = true
	if err := tpm.SealPIN(bg, s, []byte(pin)); err != nil {
		t.Fatal(err)
	}
	if err := unseal(); err != nil {
		t.Errorf("sealed anew: %v", err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.WriteFile(moved, []byte(strings.ReplaceAll(readFile(t, file), c.Socket, other.Socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hsm.PINFile(hsm.SealedPrefix+moved)(bg, hsm.TokenInfo{Label: "roots"}); err == nil || !strings.Contains(err.Error(), "another TPM") {
		t.Errorf("on another machine: %v", err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestBoundStore: the keys of a store that is bound to registers need them and the PIN.
func TestBoundStore(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{PCRs: []int{4, 7}})
	tok := open(t, u)
	k, err := tok.Generate(bg, hsm.GenerateSpec{Label: "bound", Algorithm: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	signs(t, k, hashSHA256)
	if _, _, _, err := tok.Certify(bg, k, make([]byte, 32)); err != nil {
		t.Error(err)
	}
	extend(t, c, "4")
	_, err = k.Sign(nil, make([]byte, 32), hashSHA256)
	if !errors.Is(err, tpm.ErrPCRs) || !strings.Contains(err.Error(), "PCR 4 (boot loader)") || advice.KindOf(err) != advice.Refused {
		t.Errorf("a changed register: %v", err)
	}
	if _, err := tok.Generate(bg, hsm.GenerateSpec{Label: "late", Algorithm: hsm.P256}); !errors.Is(err, tpm.ErrPCRs) {
		t.Errorf("a key that could never be used: %v", err)
	}
	asked := false
	_, err = tpm.Open(bg, tpm.Config{URI: u, PIN: func(context.Context, hsm.TokenInfo) ([]byte, error) { asked = true; return []byte(pin), nil }})
	if !errors.Is(err, tpm.ErrPCRs) || asked {
		t.Errorf("opened: asked %t: %v", asked, err)
	}
}
