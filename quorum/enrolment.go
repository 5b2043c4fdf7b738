package quorum

import (
	"bytes"
	"encoding/base64"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
)

type enrolmentJSON struct {
	Type    string      `json:"type"`
	Officer officerJSON `json:"officer"`
}

// Enrol returns an officer's enrolment: a DSSE envelope over their name, role and public keys, signed with the signing
// key, which proves that they hold it. Keys, ids and schemes left empty in o are filled in from key and o.DecryptionKey.
// That they hold the decryption key too shows when they test-decrypt their first share.
func Enrol(o Officer, key *Signer) ([]byte, error) {
	o.SigningKey, o.Scheme = key.Public(), key.scheme
	if o.DecryptionKey != nil && o.Decryption == "" {
		var err error
		if o.Decryption, err = DefaultDecryption(o.DecryptionKey); err != nil {
			return nil, err
		}
	}
	j, err := encodeOfficer(o)
	if err != nil {
		return nil, err
	}
	if _, err := decodeOfficer(format.Version{}, j); err != nil {
		return nil, usage("enrolment: %w", err)
	}
	payload, err := encode(enrolmentJSON{Type: enrolmentType, Officer: j})
	if err != nil {
		return nil, err
	}
	return SignDSSE(EnrolmentPayload, payload, key)
}

// ParseEnrolment reads an enrolment and checks that the key it names signed it. Whether that person is an officer is for
// those to know who put them into a roster.
func ParseEnrolment(data []byte) (Officer, error) {
	e, payload, err := parseEnvelope(data, EnrolmentPayload)
	if err != nil {
		return Officer{}, err
	}
	var j enrolmentJSON
	if err := decode("enrolment", payload, enrolmentType, &j, func() string { return j.Type }); err != nil {
		return Officer{}, err
	}
	if again, err := encode(j); err != nil || !bytes.Equal(again, payload) {
		return Officer{}, usage("enrolment: not in its canonical form")
	}
	o, err := decodeOfficer(format.Version{}, j.Officer)
	if err != nil {
		return Officer{}, usage("enrolment: %w", err)
	}
	s := e.Signatures[0]
	sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
	if err != nil || len(e.Signatures) != 1 || s.KeyID != o.KeyID || !verify(o.Scheme, o.SigningKey, dsse.PAE(e.PayloadType, payload), sig) {
		return Officer{}, unverified("have "+o.Name+" enrol again", "%w: enrolment of %s is not signed by the key it names", ErrSignature, show.Text(o.Name))
	}
	return o, nil
}
