package factory

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
)

// Code says what went wrong, in a word that programs can match; it travels in the JSON of a refusal.
type Code string

// The codes, each with the HTTP status that it is answered with.
const (
	CodeRequest     Code = "bad_request"     // 400: the body or the path is not well formed
	CodeForbidden   Code = "forbidden"       // 403: the caller's role may not do this
	CodeNotFound    Code = "not_found"       // 404
	CodeMethod      Code = "method"          // 405
	CodeOtherKey    Code = "other_key"       // 409: the device id has a certificate for another key
	CodeKeyKnown    Code = "key_known"       // 409: the key belongs to another device id
	CodeRevoked     Code = "revoked"         // 409: the device's certificate was revoked
	CodeOtherIssuer Code = "other_issuer"    // 409: the certificate is of another issuing CA than this service's
	CodeLotFull     Code = "lot_full"        // 409: the lot has as many devices as it may have
	CodeLotClosed   Code = "lot_closed"      // 409: the lot is closed
	CodeLotTime     Code = "lot_time"        // 409: the lot has not begun, or has ended
	CodeLotUnknown  Code = "lot_unknown"     // 409: no open lot is named, and one is needed
	CodeLotID       Code = "lot_id"          // 409: the device id or the hardware id is not of the lot
	CodeLotStation  Code = "lot_station"     // 403: the station may not enrol under this lot
	CodeLotKnown    Code = "lot_known"       // 409: the lot is there already, by another order
	CodeScrapped    Code = "scrapped"        // 409: the device was scrapped
	CodeUnfinished  Code = "unfinished"      // 409: an enrolment of the device is open
	CodeChanged     Code = "changed"         // 409: the devices are not what the request says of them
	CodeOrder       Code = "order"           // 422: the order is not one that may be applied
	CodeRate        Code = "rate"            // 429: the station enrols more new devices than it may; try again
	CodeTimeout     Code = "timeout"         // 408: a batch's caller did not send, or did not read
	CodeTooLarge    Code = "too_large"       // 413
	CodeContent     Code = "content_type"    // 415
	CodePolicy      Code = "policy"          // 422: well formed, but policy does not allow it
	CodeEvidence    Code = "evidence"        // 422: evidence of where the key was born is missing or not believed
	CodeInternal    Code = "internal"        // 500
	CodeNotDone     Code = "not_implemented" // 501: EST has it, hanaperd has not
	CodeUnavailable Code = "unavailable"     // 503: the token or the store is away; try again
	CodeClock       Code = "clock"           // 503: hanaperd's clock is not to be believed
	CodeEnding      Code = "ca_ending"       // 503: the issuing certificate ends too soon for a device's
	CodeDamaged     Code = "damaged"         // 503: the record is damaged; no new device is enrolled
	CodeHeld        Code = "held"            // 503: the record lags; nobody is enrolled until an operator has accepted it
)

// CodeRegistered is answered where a shared credential asks for an id that has a certificate (409); clients of such servers know the word.
const CodeRegistered Code = "device_already_registered"

// The codes of renewals.
const (
	CodeNotLatest   Code = "not_latest"  // 409: the device has a later certificate than the one that is to be renewed
	CodeEarly       Code = "too_early"   // 409: the certificate may be renewed later
	CodeOften       Code = "too_often"   // 409: the device got as many certificates within a year as it may
	CodeExpired     Code = "expired"     // 409: the certificate that is to be renewed has expired
	CodeCertificate Code = "certificate" // 422: the certificate that is to be renewed is not one on record
	CodeRenewalKey  Code = "renewal_key" // 422: the device may not renew with this key
	CodeKeyProof    Code = "key_proof"   // 422: the old key does not vouch for the new one
)

var statusOf = map[Code]int{
	CodeRequest: http.StatusBadRequest, CodeForbidden: http.StatusForbidden, CodeNotFound: http.StatusNotFound,
	CodeMethod: http.StatusMethodNotAllowed, CodeOtherKey: http.StatusConflict, CodeKeyKnown: http.StatusConflict,
	CodeRevoked: http.StatusConflict, CodeOtherIssuer: http.StatusConflict, CodeTooLarge: http.StatusRequestEntityTooLarge,
	CodeContent: http.StatusUnsupportedMediaType, CodePolicy: http.StatusUnprocessableEntity,
	CodeEvidence: http.StatusUnprocessableEntity,
	CodeInternal: http.StatusInternalServerError, CodeNotDone: http.StatusNotImplemented, CodeTimeout: http.StatusRequestTimeout, CodeUnavailable: http.StatusServiceUnavailable,
	CodeLotFull: http.StatusConflict, CodeHeld: http.StatusServiceUnavailable, CodeDamaged: http.StatusServiceUnavailable,
	CodeLotClosed: http.StatusConflict, CodeLotTime: http.StatusConflict, CodeLotUnknown: http.StatusConflict, CodeLotID: http.StatusConflict,
	CodeLotStation: http.StatusForbidden, CodeLotKnown: http.StatusConflict, CodeScrapped: http.StatusConflict, CodeUnfinished: http.StatusConflict,
	CodeChanged: http.StatusConflict, CodeOrder: http.StatusUnprocessableEntity, CodeRate: http.StatusTooManyRequests,
	CodeClock: http.StatusServiceUnavailable, CodeEnding: http.StatusServiceUnavailable, CodeRegistered: http.StatusConflict,

	CodeNotLatest: http.StatusConflict, CodeEarly: http.StatusConflict, CodeOften: http.StatusConflict, CodeExpired: http.StatusConflict,
	CodeCertificate: http.StatusUnprocessableEntity, CodeRenewalKey: http.StatusUnprocessableEntity, CodeKeyProof: http.StatusUnprocessableEntity,
}

// Fault is a refusal or failure with a code. The service returns it, the server encodes it, the client decodes it again.
type Fault struct {
	Code Code
	// Text and Hint are shown to the caller.
	Text, Hint string
	// RetryAfter is zero unless trying again may help.
	RetryAfter time.Duration
	// accepted says that the request itself is on record, and is brought to its end by a retry or by hanaperd.
	accepted bool
	// cause is for the log only.
	cause error
	// told says that it was counted as a refusal, with what is known of the device.
	told bool
}

func (f *Fault) Error() string {
	if f.cause != nil {
		return f.Text + ": " + f.cause.Error()
	}
	return f.Text
}

func (f *Fault) Unwrap() error { return f.cause }

// Status is the HTTP status of the fault.
func (f *Fault) Status() int {
	if s, ok := statusOf[f.Code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// advise gives the fault as an error that a program reports.
func (f *Fault) advise() error {
	kind := advice.Failed
	switch f.Code {
	case CodeForbidden, CodeOtherKey, CodeKeyKnown, CodeRevoked, CodeOtherIssuer, CodePolicy, CodeEvidence, CodeLotFull, CodeLotClosed, CodeLotTime, CodeLotUnknown, CodeLotID,
		CodeLotStation, CodeLotKnown, CodeScrapped, CodeUnfinished, CodeChanged, CodeOrder, CodeHeld, CodeDamaged, CodeClock, CodeEnding,
		CodeRegistered, CodeNotLatest, CodeEarly, CodeOften, CodeExpired, CodeCertificate, CodeRenewalKey, CodeKeyProof:
		kind = advice.Refused
	case CodeRequest, CodeContent, CodeTooLarge, CodeMethod, CodeNotDone:
		kind = advice.Usage
	}
	return advice.Wrap(kind, f, f.Hint)
}

// adviceOf is the hint of an error of another room.
func adviceOf(err error) string { return advice.Hint(err) }

func fault(code Code, hint, format string, args ...any) *Fault {
	return &Fault{Code: code, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// away is the fault for a token or store that does not answer now. The cause is logged, not sent.
func away(what string, cause error) *Fault {
	if durable.Full(cause) {
		return &Fault{Code: CodeUnavailable, Text: what + " takes nothing more: its disk is full", Hint: "make room on that disk, then try again: until then do not count it as done; a device's retry gets the same certificate",
			RetryAfter: retryAfter, cause: cause}
	}
	return &Fault{Code: CodeUnavailable, Text: what + " does not answer", Hint: "try again: do not count it as done; a device's retry gets the same certificate. hanaperd's log says why (a full disk, a database or token that is away)",
		RetryAfter: retryAfter, cause: cause}
}

// pending is away for a request whose intent is on record.
func pending(what string, cause error) *Fault {
	f := away(what, cause)
	f.accepted = true
	return f
}

// otherIssuer refuses what only the holder of the key that issued a certificate can do: hand it out with its chain, or
// sign a list that it is on.
func otherIssuer(r record.Record) *Fault {
	return fault(CodeOtherIssuer, "add that CA to issuing.others in hanaperd's configuration, and ask again",
		"the certificate of device id %q was issued by another CA than this service's", r.DeviceID)
}

// asFault finds the fault in err; any other error is internal, and its text stays in the log.
func asFault(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return &Fault{Code: CodeInternal, Text: "internal error", Hint: "see hanaperd's log", cause: err}
}
