package factory_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"testing"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
)

// sealAs signs a payload as DSSE v1 says (its own pre-authentication encoding, for the product's is what is judged).
func sealAs(t *testing.T, id tls.Certificate, payloadType string, payload []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	sig, err := ecdsa.SignASN1(rand.Reader, id.PrivateKey.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	name := sha256.Sum256(id.Leaf.Raw)
	b, err := json.Marshal(map[string]any{"payloadType": payloadType, "payload": base64.StdEncoding.EncodeToString(payload), "signatures": []any{map[string]any{
		"keyid": hex.EncodeToString(name[:]), "cert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.Leaf.Raw})), "sig": base64.StdEncoding.EncodeToString(sig)}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func payloadOf(t *testing.T, path string) string {
	t.Helper()
	var e struct{ Payload string }
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

func idOf(t *testing.T, payload string) string {
	t.Helper()
	var p struct{ ID string }
	if err := json.Unmarshal([]byte(payload), &p); err != nil || len(p.ID) != 32 {
		t.Fatal(payload, err)
	}
	return p.ID
}

// alienChain is a chain of another fleet's for the key in a file: the text of a "chain" in JSON.
func alienChain(t *testing.T, keyFile, id string) string {
	t.Helper()
	key, _, err := factory.FileKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	issuer := newRoot(t, "fleet-root", "Another Fleet Root").leaf(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Another Factory CA"}, NotAfter: inYears(10)})
	device := issuer.issue(t, "device", ca.Template{Subject: pkix.Name{CommonName: id}, PublicKey: key.Public()})
	var chain []byte
	for _, der := range [][]byte{device.Raw, issuer.cert.Raw} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	b, err := json.Marshal(string(chain))
	if err != nil {
		t.Fatal(err)
	}
	return `"chain":` + string(b)
}
