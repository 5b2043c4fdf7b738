package devicetest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
)

// key is a public key in the form in which the real client writes it: hex in capitals, a PEM without its last newline.
func (e ECU) key() (map[string]any, error) {
	typ, public := "", ""
	switch k := e.Key.Public().(type) {
	case ed25519.PublicKey:
		typ, public = "ED25519", strings.ToUpper(hex.EncodeToString(k))
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return nil, err
		}
		typ, public = "RSA", strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	default:
		return nil, fmt.Errorf("ECU %s: no Uptane key: %T", e.Serial, k)
	}
	return map[string]any{"keytype": typ, "keyval": map[string]any{"public": public}}, nil
}

// sign makes {"signatures","signed"}.
func (e ECU) sign(signed map[string]any) (map[string]any, error) {
	message, err := canonical(nil, signed)
	if err != nil {
		return nil, err
	}
	key, err := e.key()
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256([]byte(key["keyval"].(map[string]any)["public"].(string)))
	method, digest, opts := "ed25519", message, crypto.SignerOpts(crypto.Hash(0))
	if _, ok := e.Key.Public().(*rsa.PublicKey); ok {
		sum := sha256.Sum256(message)
		method, digest, opts = "rsassa-pss", sum[:], &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	}
	sig, err := e.Key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, err
	}
	return map[string]any{"signed": signed, "signatures": []any{map[string]any{
		"keyid": hex.EncodeToString(id[:]), "method": method, "sig": base64.StdEncoding.EncodeToString(sig)}}}, nil
}

// registration is what POST /director/ecus carries.
func (d *Device) registration() ([]byte, error) {
	var list []any
	for _, e := range d.ecus() {
		key, err := e.key()
		if err != nil {
			return nil, err
		}
		list = append(list, map[string]any{"ecu_serial": e.Serial, "hardware_identifier": e.HardwareID, "clientKey": key})
	}
	return canonical(nil, map[string]any{"primary_ecu_serial": d.c.Primary.Serial, "ecus": list})
}

// manifest is what PUT /director/manifest carries: each ECU signs for itself, and the primary for the whole.
func (d *Device) manifest() ([]byte, error) {
	ecus := map[string]any{}
	for _, e := range d.ecus() {
		has := d.s.Installed[e.Serial]
		part, err := e.sign(map[string]any{
			"ecu_serial": e.Serial, "attacks_detected": d.s.Attacks[e.Serial], "previous_timeserver_time": "1970-01-01T00:00:00Z", "timeserver_time": "1970-01-01T00:00:00Z",
			"installed_image": map[string]any{"filepath": has.Name, "fileinfo": map[string]any{
				"hashes": map[string]any{"sha256": has.SHA256}, "length": json.Number(fmt.Sprint(has.Length))}},
		})
		if err != nil {
			return nil, err
		}
		ecus[e.Serial] = part
	}
	body := map[string]any{"primary_ecu_serial": d.c.Primary.Serial, "ecu_version_manifests": ecus}
	if d.s.Report != nil {
		b, err := json.Marshal(d.s.Report)
		if err != nil {
			return nil, err
		}
		tree, err := decode(b)
		if err != nil {
			return nil, err
		}
		body["installation_report"] = map[string]any{"content_type": "application/vnd.com.here.otac.installationReport.v1", "report": tree}
	}
	whole, err := d.c.Primary.sign(body)
	if err != nil {
		return nil, err
	}
	return canonical(nil, whole)
}
