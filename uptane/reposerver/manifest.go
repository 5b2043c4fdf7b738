package reposerver

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/uptane"
)

// registration is a device's ECUs, as it tells them itself.
type registration struct {
	Primary string
	ECUs    map[string]ECU
}

func parseRegistration(data []byte) (*registration, error) {
	bad := func(format string, args ...any) (*registration, error) {
		return nil, refuse(400, codeBadRequest, "registration: "+format, args...)
	}
	data, err := uptane.Canonical(data) // refuses repeated members and what two readers could read differently
	if err != nil {
		return bad("%v", err)
	}
	var doc struct {
		Primary string `json:"primary_ecu_serial"`
		ECUs    []struct {
			Serial     string          `json:"ecu_serial"`
			HardwareID string          `json:"hardware_identifier"`
			Key        json.RawMessage `json:"clientKey"`
		} `json:"ecus"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return bad("%v", err)
	}
	out := &registration{Primary: doc.Primary, ECUs: map[string]ECU{}}
	if len(doc.ECUs) > maxECUs {
		return bad("%d ECUs are more than %d", len(doc.ECUs), maxECUs)
	}
	for _, e := range doc.ECUs {
		if err := checkWord("ecu_serial", e.Serial, uptane.MaxECUSerial); err != nil {
			return bad("%v", err)
		}
		if err := checkWord("hardware_identifier", e.HardwareID, uptane.MaxHardwareID); err != nil {
			return bad("%v", err)
		}
		if _, ok := out.ECUs[e.Serial]; ok {
			return bad("ECU %s is there twice", show.Text(e.Serial))
		}
		key, err := deviceKey(e.Key)
		if err != nil {
			return bad("ECU %s: %v", show.Text(e.Serial), err)
		}
		form, err := key.MarshalJSON()
		if err != nil {
			return bad("ECU %s: %v", show.Text(e.Serial), err)
		}
		out.ECUs[e.Serial] = ECU{e.HardwareID, form}
	}
	if _, ok := out.ECUs[out.Primary]; !ok {
		return bad("the primary ECU %q is not among the ECUs", printable(out.Primary))
	}
	return out, nil
}

// deviceKey reads a key as clients write it: their hex is in capitals, and their PEM may lack its last newline.
func deviceKey(data []byte) (uptane.Key, error) {
	var doc struct {
		Type  uptane.KeyType `json:"keytype"`
		Value struct {
			Public string `json:"public"`
		} `json:"keyval"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return uptane.Key{}, errors.New("clientKey is no public key")
	}
	if doc.Type == uptane.Ed25519 {
		doc.Value.Public = strings.ToLower(doc.Value.Public)
	} else {
		doc.Value.Public = strings.TrimRight(doc.Value.Public, "\n") + "\n"
	}
	form, err := json.Marshal(doc)
	if err != nil {
		return uptane.Key{}, err
	}
	return uptane.ParseKey(form)
}

func checkWord(what, s string, most int) error {
	if s == "" || len(s) > most {
		return fmt.Errorf("%s is empty or longer than %d characters", what, most)
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return fmt.Errorf("%s holds a character other than printable ASCII", what)
		}
	}
	return nil
}

// signedPart is {"signatures","signed"} with the signed part in canonical form.
type signedPart struct {
	Signatures []struct {
		KeyID  string `json:"keyid"`
		Method string `json:"method"`
		Sig    string `json:"sig"`
	} `json:"signatures"`
	Signed json.RawMessage `json:"signed"`
}

// manifest is what a device says is installed. It is parsed, and believed only after verify.
type manifest struct {
	primary   string
	whole     signedPart
	ecus      map[string]signedPart
	installed map[string]Installed
	attacks   map[string]string
	report    *installationReport // nil: none
}

func parseManifest(data []byte) (*manifest, error) {
	bad := func(format string, args ...any) (*manifest, error) {
		return nil, refuse(400, codeBadRequest, "manifest: "+format, args...)
	}
	// Every part of a canonical document is in canonical form: what is signed can be cut out as it is. What ECUs say of a
	// failure may be in any language.
	data, err := uptane.Wide(data)
	if err != nil {
		return bad("%v", err)
	}
	m := &manifest{installed: map[string]Installed{}, attacks: map[string]string{}}
	if err := json.Unmarshal(data, &m.whole); err != nil || len(m.whole.Signed) == 0 {
		return bad("not a signed document")
	}
	var body struct {
		Primary string                `json:"primary_ecu_serial"`
		ECUs    map[string]signedPart `json:"ecu_version_manifests"`
		Report  json.RawMessage       `json:"installation_report"`
	}
	if err := json.Unmarshal(m.whole.Signed, &body); err != nil {
		return bad("%v", err)
	}
	if len(body.ECUs) == 0 || len(body.ECUs) > maxECUs {
		return bad("%d ECU manifests are not between 1 and %d", len(body.ECUs), maxECUs)
	}
	m.primary, m.ecus = body.Primary, body.ECUs
	if len(body.Report) > 0 {
		// A report that cannot be read is none: the manifest counts all the same, and is kept as it came.
		r := &installationReport{}
		if json.Unmarshal(body.Report, r) == nil {
			m.report = r
		}
	}
	if _, ok := m.ecus[m.primary]; !ok {
		return bad("the primary ECU %q says nothing", printable(m.primary))
	}
	for serial, part := range m.ecus {
		var ecu struct {
			Serial    string `json:"ecu_serial"`
			Attacks   string `json:"attacks_detected"`
			Installed struct {
				Path string `json:"filepath"`
				Info struct {
					Length int64             `json:"length"`
					Hashes map[string]string `json:"hashes"`
				} `json:"fileinfo"`
			} `json:"installed_image"`
		}
		if err := json.Unmarshal(part.Signed, &ecu); err != nil {
			return bad("ECU %s: %v", show.Text(printable(serial)), err)
		}
		if ecu.Serial != serial {
			return bad("the manifest of ECU %s stands under %s", show.Text(printable(ecu.Serial)), show.Text(printable(serial)))
		}
		if ecu.Attacks != "" {
			m.attacks[serial] = bounded(ecu.Attacks)
		}
		m.installed[serial] = Installed{ecu.Installed.Path, ecu.Installed.Info.Length, ecu.Installed.Info.Hashes["sha256"]}
	}
	return m, nil
}

// verify demands that every ECU manifest is signed by that ECU's registered key, and the whole by the primary's.
func (m *manifest) verify(dev *Device) error {
	if m.primary != dev.Primary {
		return refuse(400, codeBadRequest, "manifest: the primary ECU of device %s is %s, not %s", show.Text(dev.ID), show.Text(dev.Primary), show.Text(printable(m.primary)))
	}
	check := func(what, serial string, part signedPart) error {
		ecu, ok := dev.ECUs[serial]
		if !ok {
			return refuse(400, codeBadRequest, "manifest: device %s has no ECU %q", show.Text(dev.ID), printable(serial))
		}
		key, err := uptane.ParseKey(ecu.Key)
		if err != nil {
			return err
		}
		if !part.signedBy(key) {
			return refuse(400, codeBadSignature, "manifest: %s is not signed by the key of ECU %s", show.Line(what), show.Text(serial))
		}
		return nil
	}
	for serial, part := range m.ecus {
		if err := check("what ECU "+printable(serial)+" says", serial, part); err != nil {
			return err
		}
	}
	return check("the whole", m.primary, m.whole)
}

// signedBy looks for one valid signature. The key ids of devices are made otherwise than the server's, and are not
// compared; a PSS salt of any length is a device's own affair.
func (p signedPart) signedBy(key uptane.Key) bool {
	if len(p.Signatures) > 10 {
		return false
	}
	return p.signedAs(p.Signed, key) || bytes.Contains(p.Signed, []byte(`\u`)) && p.signedAs(uptane.RawText(p.Signed), key)
}

func (p signedPart) signedAs(signed []byte, key uptane.Key) bool {
	for _, s := range p.Signatures {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		if err != nil {
			continue
		}
		switch pub := key.Public().(type) {
		case ed25519.PublicKey:
			if s.Method == string(uptane.MethodEd25519) && signature.VerifyMessage(pub, signed, crypto.Hash(0), sig) {
				return true
			}
		case *rsa.PublicKey:
			if slices.Contains([]string{"rsassa-pss", "rsassa-pss-sha256"}, s.Method) && signature.VerifyAnySalt(pub, signature.Digest(signed, crypto.SHA256), sig) {
				return true
			}
		}
	}
	return false
}
