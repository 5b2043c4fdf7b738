package factory_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
	"github.com/hanaper/hanaper/factory"
)

// goldenEvidence is what a release kept of a device with a software TPM, the device's certificate, and the manufacturer's root.
func goldenEvidence(t testing.TB) (kept []byte, leaf *x509.Certificate, policy *attest.Policy) {
	t.Helper()
	kept, err := os.ReadFile("testdata/evidence-1.json")
	if err != nil {
		t.Fatal(err)
	}
	one := func(name string) *x509.Certificate {
		certs, err := factory.LoadCertificates(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return certs[0]
	}
	pinned, err := attest.NewManufacturers(attest.ManufacturerConfig{Name: "Acme", Kind: attest.TPM, Roots: []*x509.Certificate{one("evidence-1-root.pem")}})
	if err != nil {
		t.Fatal(err)
	}
	return kept, one("evidence-1-device.pem"), policyOf(t, required(pinned))
}

// TestEvidenceGolden: what a release kept is verified by every later one. With HANAPER_GOLDEN=1 it is made anew.
func TestEvidenceGolden(t *testing.T) {
	if os.Getenv("HANAPER_GOLDEN") == "1" {
		maker := attesttest.NewMaker(t, "Acme")
		p := newPlant(t)
		r := serve(t, p, attesting(t, required(attesttest.Pin(t, attest.TPM, maker))))
		line, b := r.client(p.station(t, "line-1")), newBoard(t, maker, "")
		a, err := b.ask(t, line, "dev-1")
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := line.Enroll(t.Context(), enrollWith(t, b.key, "dev-1", b.prove(t, a, "dev-1")))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := line.Evidence(t.Context(), "dev-1")
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"evidence-1.json": kept, "evidence-1-device.pem": []byte(got.Certificate),
			"evidence-1-root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Root.Raw})} {
			if err := os.WriteFile(filepath.Join("testdata", name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept, leaf, policy := goldenEvidence(t)
	v, err := factory.VerifyEvidence(kept, leaf, policy)
	if err != nil || v.Kind != attest.TPM || v.Manufacturer != "Acme" {
		t.Errorf("%+v, %v", v, err)
	}
}

// FuzzKeptEvidence: nothing that is kept makes the offline check panic, and nothing is taken but the golden request.
func FuzzKeptEvidence(f *testing.F) {
	kept, leaf, policy := goldenEvidence(f)
	good, err := factory.ParseEvidence("golden", kept)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kept)
	f.Add([]byte(`{"type":"hanaper-evidence/1","level":"required","at":"2026-11-26T20:00:00Z","station":"s","request":"MAA="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := factory.VerifyEvidence(data, leaf, policy); err != nil {
			return
		}
		if k, err := factory.ParseEvidence("fuzz", data); err != nil || string(k.Request) != string(good.Request) {
			t.Errorf("taken: %.200s", data)
		}
	})
}
