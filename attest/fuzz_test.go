package attest_test

import (
	"crypto/x509"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
)

// join puts parts into one seed, each with its length before it; split takes it apart.
func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(p))), p...)
	}
	return out
}

func split(data []byte) (parts [][]byte) {
	for len(data) >= 2 && len(parts) < 16 {
		n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
		parts = append(parts, data[2:2+n])
		data = data[2+n:]
	}
	return parts
}

// golden is a file of testdata, which TestGolden made once with a software TPM.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FuzzTPM: no bytes make the checks panic, and none are accepted that were not made by the pinned manufacturer's chip.
func FuzzTPM(f *testing.F) {
	root, err := x509.ParseCertificate(golden(f, "tpm-root.der"))
	if err != nil {
		f.Fatal(err)
	}
	pinned, err := attest.NewManufacturers(attest.ManufacturerConfig{Name: "Acme", Kind: attest.TPM, Roots: []*x509.Certificate{root}})
	if err != nil {
		f.Fatal(err)
	}
	good := split(golden(f, "tpm-evidence.bin"))
	f.Add(join(good...))
	f.Add(join(good[:4]...))
	state, err := attest.NewPCRState("zero", "sha256", map[int][]byte{0: make([]byte, 32), 16: make([]byte, 32)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := append(split(data), make([][]byte, 16)...)
		e := attest.TPMEvidence{EKChain: [][]byte{p[0], p[1]}, EKPublic: p[2], AKPublic: p[3], KeyPublic: p[4], Attest: p[5], Signature: p[6],
			Quote: p[7], QuoteSignature: p[8]}
		binding, err := e.Binding()
		if err != nil {
			return
		}
		w := attest.Want{Qualifying: qualifying, Activation: attest.ByWitness("nobody", binding), At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
		if k, err := attest.KeyOf(e.KeyPublic); err == nil {
			w.Key = k
		}
		if len(p[7]) > 0 {
			w.States = []attest.PCRState{state}
		}
		if v, err := pinned.VerifyTPM(&e, w); err == nil && string(join(p[3], p[4], p[5])) != string(join(good[3], good[4], good[5])) {
			t.Errorf("accepted: %+v", v)
		}
	})
}

// TestGolden: evidence that a release made is accepted by every later one. With HANAPER_GOLDEN=1 it is made anew.
func TestGolden(t *testing.T) {
	if os.Getenv("HANAPER_GOLDEN") == "1" {
		maker := attesttest.NewMaker(t, "Acme")
		pinned := attesttest.Pin(t, attest.TPM, maker)
		d := enrol(t, pinned, maker.NewChip(t), "")
		state, err := attest.NewPCRState("zero", "sha256", map[int][]byte{0: make([]byte, 32), 16: make([]byte, 32)})
		if err != nil {
			t.Fatal(err)
		}
		e := d.evidence
		e.Quote, e.QuoteSignature = d.ak.Quote(t, state.Selection(), qualifying)
		for name, data := range map[string][]byte{"tpm-root.der": maker.Root.Raw,
			"tpm-evidence.bin": join(e.EKChain[0], e.EKChain[1], e.EKPublic, e.AKPublic, e.KeyPublic, e.Attest, e.Signature, e.Quote, e.QuoteSignature)} {
			if err := os.WriteFile(filepath.Join("testdata", name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := x509.ParseCertificate(golden(t, "tpm-root.der"))
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := attest.NewManufacturers(attest.ManufacturerConfig{Name: "Acme", Kind: attest.TPM, Roots: []*x509.Certificate{root}})
	if err != nil {
		t.Fatal(err)
	}
	p := split(golden(t, "tpm-evidence.bin"))
	if len(p) != 9 {
		t.Fatalf("%d parts", len(p))
	}
	e := attest.TPMEvidence{EKChain: [][]byte{p[0], p[1]}, EKPublic: p[2], AKPublic: p[3], KeyPublic: p[4], Attest: p[5], Signature: p[6],
		Quote: p[7], QuoteSignature: p[8]}
	binding, err := e.Binding()
	if err != nil {
		t.Fatal(err)
	}
	key, err := attest.KeyOf(e.KeyPublic)
	if err != nil {
		t.Fatal(err)
	}
	state, err := attest.NewPCRState("zero", "sha256", map[int][]byte{0: make([]byte, 32), 16: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	v, err := pinned.VerifyTPM(&e, attest.Want{Key: key, Qualifying: qualifying, Activation: attest.ByWitness("the golden file", binding),
		States: []attest.PCRState{state}, At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil || v.Fact("state") != "zero" {
		t.Errorf("%+v, %v", v, err)
	}
}
