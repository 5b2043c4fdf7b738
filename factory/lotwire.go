package factory

import (
	"time"

	"github.com/hanaper/hanaper/internal/strict"
)

// LotAnswer is how a lot stands. What is empty does not restrict.
type LotAnswer struct {
	Name string `json:"name"`
	// Quantity is how many devices the lot may have, Taken how many it has, those included whose certificate is not signed yet.
	Quantity int64 `json:"quantity"`
	Taken    int64 `json:"taken"`
	// State is "open" or "closed".
	State       string    `json:"state"`
	Profile     string    `json:"profile,omitempty"`
	Environment string    `json:"environment,omitempty"`
	IDPattern   string    `json:"id_pattern,omitempty"`
	Listed      int64     `json:"listed,omitempty"`
	Stations    []string  `json:"stations,omitempty"`
	HardwareIDs []string  `json:"hardware_ids,omitempty"`
	From        time.Time `json:"from,omitzero"`
	Until       time.Time `json:"until,omitzero"`
	OpenedAt    time.Time `json:"opened_at,omitzero"`
	ClosedAt    time.Time `json:"closed_at,omitzero"`
	// Order is the digest of the order in force, in hex: the SHA-256 of what was signed.
	Order string `json:"order,omitempty"`
	// Changed says that this call changed something; SignedBy who signed the order that it brought.
	Changed  bool     `json:"changed,omitempty"`
	SignedBy []string `json:"signed_by,omitempty"`
}

// LotQuery asks for lots in order of their names: State "open" or "closed" or both, behind the name After, at most Limit (1 to 1000; 0 means 100).
type LotQuery struct {
	State string
	After string
	Limit int
}

// LotsAnswer is a page of lots. Next is the After of the next page, empty where there is none.
type LotsAnswer struct {
	Lots []LotAnswer `json:"lots"`
	Next string      `json:"next,omitempty"`
}

// CloseLotRequest is the body of POST /v1/lots/NAME/close; the name is in the path.
type CloseLotRequest struct {
	Name string `json:"-"`
	Note string `json:"note,omitempty"`
}

// ReissueRequest is the body of POST /v1/reissue.
type ReissueRequest struct {
	DeviceID string `json:"device_id"`
	Note     string `json:"note,omitempty"`
}

// ScrapRequest is the body of POST /v1/scrap. FreeSlot gives the device's place in its lot to another.
type ScrapRequest struct {
	DeviceID string `json:"device_id"`
	FreeSlot bool   `json:"free_slot,omitempty"`
	Note     string `json:"note,omitempty"`
}

// SwapRequest is the body of POST /v1/swap. KeyA and KeyB are the key digests that the ids have now, in hex, as the caller saw them; with them a swap that
// is sent twice is made once. Both empty: whatever they are.
type SwapRequest struct {
	A    string `json:"a"`
	B    string `json:"b"`
	KeyA string `json:"key_a,omitempty"`
	KeyB string `json:"key_b,omitempty"`
	Note string `json:"note,omitempty"`
}

// ActAnswer tells what was done to devices. CRLNumber is the list that carries the revocations, 0 while that is still to be signed.
type ActAnswer struct {
	Devices   []string `json:"devices"`
	Changed   bool     `json:"changed"`
	CRLNumber int64    `json:"crl_number"`
}

// PermitAnswer says that a device may be enrolled again: with the key that has this digest only, or with any other than its last where Key is empty.
type PermitAnswer struct {
	Key  string    `json:"key,omitempty"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Note string    `json:"note,omitempty"`
}

// DeviceQuery selects enrolments; what is empty does not restrict. Key is a digest in hex; From and Until bound when the enrolment was begun, from From on and before
// Until; After is the Next of the page before; Limit 1 to 1000, 0 means 100.
type DeviceQuery struct {
	Key     string    `json:"key,omitempty"`
	Station string    `json:"station,omitempty"`
	Lot     string    `json:"lot,omitempty"`
	From    time.Time `json:"from,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	After   string    `json:"after,omitempty"`
	Limit   int       `json:"limit,omitempty"`
}

// DevicesAnswer is a page of them. Next is the After of the next page, empty where there is none.
type DevicesAnswer struct {
	Devices []DeviceAnswer `json:"devices"`
	Next    string         `json:"next,omitempty"`
}

// RevokeDevicesRequest is the body of POST /v1/revoke/devices: which, and a reason of Reasons.
type RevokeDevicesRequest struct {
	DeviceQuery
	Reason string `json:"reason"`
	// Note is kept in the record beside each revocation; it may be left out.
	Note string `json:"note,omitempty"`
}

// RevokeDevicesAnswer tells what became of one page. Open counts enrolments without a certificate, of which there is nothing to revoke. CRLNumber is the list
// that carries all, in the answer for the last page; 0 while that is still to be signed.
type RevokeDevicesAnswer struct {
	Revoked   int    `json:"revoked"`
	Already   int    `json:"already"`
	Open      int    `json:"open"`
	Next      string `json:"next,omitempty"`
	CRLNumber int64  `json:"crl_number"`
}

// decodeInto reads a body of one of these types.
func decodeInto[T any](body []byte, example string) (q T, err error) {
	if err := strict.JSON("body", body, &q); err != nil {
		return q, fault(CodeRequest, "send "+example, "%v", err)
	}
	return q, nil
}
