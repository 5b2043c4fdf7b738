package factory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/internal/strict"
)

// EnrollRequest is the body of POST /v1/enroll.
type EnrollRequest struct {
	// CSR is a PKCS#10 request in PEM.
	CSR string `json:"csr"`
	// HardwareID and Lot are recorded beside the certificate; both may be empty.
	HardwareID string `json:"hardware_id,omitempty"`
	Lot        string `json:"lot,omitempty"`
	// Last is the last certificate that the station got from this hanaperd, in PEM, whatever the device; empty where it has none. A
	// record that does not know it was put back from an older copy.
	Last string `json:"last,omitempty"`
}

// EnrollAnswer is the answer to it: the leaf, and the leaf with what stands between it and the Fleet Root, in PEM.
type EnrollAnswer struct {
	DeviceID    string    `json:"device_id"`
	Serial      string    `json:"serial"`
	Certificate string    `json:"certificate"`
	Chain       string    `json:"chain"`
	NotAfter    time.Time `json:"not_after"`
	// Log is the issuance log's last checkpoint, which covers this certificate only in a later answer; nil where there is no log.
	Log *LogAnswer `json:"log,omitempty"`
	// Differs says, for a device that was on record already, what the request says otherwise than the record, which stays as it is.
	Differs string `json:"differs,omitempty"`
}

// RevokeRequest is the body of POST /v1/revoke: one of DeviceID and Serial (hex, as certificate tools print it), and a reason of Reasons.
type RevokeRequest struct {
	DeviceID string `json:"device_id,omitempty"`
	Serial   string `json:"serial,omitempty"`
	Reason   string `json:"reason"`
	// Note is kept in the record beside the revocation; it may be left out.
	Note string `json:"note,omitempty"`
	// Unknown lets a serial be revoked that the record does not know, as after a loss of the store.
	Unknown bool `json:"unknown,omitempty"`
}

// RevokeAnswer tells the revocation on record. CRLNumber is the list that carries it, 0 while that is still to be signed.
type RevokeAnswer struct {
	DeviceID  string    `json:"device_id"`
	Serial    string    `json:"serial"`
	Reason    string    `json:"reason"`
	RevokedAt time.Time `json:"revoked_at"`
	CRLNumber int64     `json:"crl_number"`
	// Known says that the record has the certificate.
	Known bool `json:"known"`
	// Log is the issuance log's last checkpoint; nil where there is no log.
	Log *LogAnswer `json:"log,omitempty"`
}

// TakeInRequest is the body of POST /v1/known: certificates that were got from this hanaperd, in PEM.
type TakeInRequest struct {
	Certificates string `json:"certificates"`
}

// TakeInAnswer is the answer to it: how many were sent, and how many of them the record lacked.
type TakeInAnswer struct {
	Certificates int `json:"certificates"`
	TakenIn      int `json:"taken_in"`
}

// AcceptRequest is the body of POST /v1/store/accept; Note is kept in the record.
type AcceptRequest struct {
	Note string `json:"note"`
}

// StoreAnswer is the answer to GET /v1/store: why no device is enrolled, empty where devices are, and the number of the last event.
type StoreAnswer struct {
	Held     string `json:"held"`
	Sequence int64  `json:"sequence"`
}

// DeviceAnswer is what is on record for a device id. Status is "open", "issued" or "revoked".
type DeviceAnswer struct {
	DeviceID    string     `json:"device_id"`
	Status      string     `json:"status"`
	Serial      string     `json:"serial"`
	HardwareID  string     `json:"hardware_id,omitempty"`
	Lot         string     `json:"lot,omitempty"`
	Station     string     `json:"station"`
	KeyDigest   string     `json:"key_digest"`
	NotBefore   time.Time  `json:"not_before"`
	NotAfter    time.Time  `json:"not_after"`
	IssuedAt    *time.Time `json:"issued_at,omitempty"`
	RevokedAt   *time.Time `json:"revoked_at,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Certificate string     `json:"certificate,omitempty"`
	// Attested says of which chip there was good evidence that it made the key; nil for none.
	Attested *AttestedAnswer `json:"attested,omitempty"`
	// Generation counts the enrolments of the device id from 1. Scrapped says that the id gets no further certificate; Permit that it may be enrolled again.
	Generation int           `json:"generation,omitempty"`
	Scrapped   bool          `json:"scrapped,omitempty"`
	Permit     *PermitAnswer `json:"permit,omitempty"`
}

// AttestedAnswer names the chip that made a device's key: Chip is the SHA-256 of its certificate, EvidenceDigest that of what GET
// /v1/devices/ID/evidence answers.
type AttestedAnswer struct {
	Kind           attest.Kind `json:"kind"`
	Manufacturer   string      `json:"manufacturer"`
	Chip           string      `json:"chip"`
	EvidenceDigest string      `json:"evidence_digest"`
}

// Health is the answer to GET /healthz.
type Health struct {
	Status string `json:"status"`
	Token  string `json:"token"`
	Store  string `json:"store"`
	Clock  string `json:"clock"`
	// Notes say in words what has ended or soon will, and what to do.
	Notes     []string `json:"notes,omitempty"`
	Expiries  []Expiry `json:"expiries,omitempty"`
	CRLNumber int64    `json:"crl_number"`
	// Log is "ok", or what is wrong with the issuance log; empty where there is none.
	Log string `json:"log,omitempty"`
}

// refusal is the body of every answer that is not a success.
type refusal struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Code  Code   `json:"code"`
}

// reasons of revocation by name, with their codes and names in RFC 5280, section 5.3.1. Those of CAs and attribute authorities
// are no device's; certificateHold and removeFromCRL are left out, for a revocation here is for good.
var reasons = []struct {
	name string
	code int
	rfc  string
}{
	{"unspecified", 0, "unspecified"}, {"key_compromise", 1, "keyCompromise"}, {"affiliation_changed", 3, "affiliationChanged"},
	{"superseded", 4, "superseded"}, {"cessation_of_operation", 5, "cessationOfOperation"}, {"privilege_withdrawn", 9, "privilegeWithdrawn"},
}

// Reasons lists the names that RevokeRequest.Reason takes.
func Reasons() []string {
	var names []string
	for _, r := range reasons {
		names = append(names, r.name)
	}
	return names
}

// ReasonOf names a reason by its code of RFC 5280, section 5.3.1; ok is false for one that no device's certificate is revoked for.
func ReasonOf(code int) (name string, ok bool) {
	for _, r := range reasons {
		if r.code == code {
			return r.name, true
		}
	}
	return "", false
}

func reasonName(code int) string {
	if name, ok := ReasonOf(code); ok {
		return name
	}
	return fmt.Sprintf("reason_%d", code)
}

func reasonCode(name string) (int, error) {
	for _, r := range reasons {
		if r.name == name || strings.EqualFold(r.rfc, name) {
			return r.code, nil
		}
	}
	hint := "one of " + strings.Join(Reasons(), ", ") + ", or the same by its name in RFC 5280, such as keyCompromise"
	if strings.EqualFold(name, "certificateHold") || strings.EqualFold(name, "removeFromCRL") {
		hint = "a revocation here is for good: " + hint
	}
	return 0, fault(CodeRequest, hint, "reason %.40q is unknown", name)
}

func decodeEnroll(body []byte) (q EnrollRequest, err error) {
	// What encodes to the very octets that it was read from has no key twice, none unknown, and nothing behind it: most requests are so, and
	// the reading that finds out what else is wrong takes twice as long.
	if json.Unmarshal(body, &q) == nil && q.CSR != "" {
		if again, err := json.Marshal(q); err == nil && bytes.Equal(again, bytes.TrimSpace(body)) {
			return q, nil
		}
	}
	q = EnrollRequest{}
	if err := strict.JSON("body", body, &q); err != nil {
		return q, fault(CodeRequest, `send {"csr": "-----BEGIN CERTIFICATE REQUEST-----...", "hardware_id": "..."}`, "%v", err)
	}
	if q.CSR == "" {
		return q, fault(CodeRequest, "", "body: csr is missing")
	}
	return q, nil
}

func decodeChallenge(body []byte) (q ChallengeRequest, err error) {
	if err := strict.JSON("body", body, &q); err != nil {
		return q, fault(CodeRequest, `send {"device_id": "...", "kind": "tpm", ...}`, "%v", err)
	}
	return q, nil
}

func decodeTakeIn(body []byte) (q TakeInRequest, err error) {
	if err := strict.JSON("body", body, &q); err != nil {
		return q, fault(CodeRequest, `send {"certificates": "-----BEGIN CERTIFICATE-----..."}`, "%v", err)
	}
	return q, nil
}

func decodeAccept(body []byte) (q AcceptRequest, err error) {
	if err := strict.JSON("body", body, &q); err != nil {
		return q, fault(CodeRequest, `send {"note": "what was found"}`, "%v", err)
	}
	if q.Note == "" || len(q.Note) > maxNote {
		return q, fault(CodeRequest, "say what was lost, and what was done about it", "body: note is empty or longer than %d bytes", maxNote)
	}
	return q, checkText("body: note", q.Note)
}

func decodeRevoke(body []byte) (q RevokeRequest, err error) {
	if err := strict.JSON("body", body, &q); err != nil {
		return q, fault(CodeRequest, `send {"device_id": "...", "reason": "key_compromise"}`, "%v", err)
	}
	if (q.DeviceID == "") == (q.Serial == "") {
		return q, fault(CodeRequest, "", "body: give one of device_id and serial")
	}
	_, err = reasonCode(q.Reason)
	return q, err
}
