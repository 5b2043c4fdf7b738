package console

import (
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
)

// reason says in words what a code of a refusal means to somebody at the line.
func reason(c factory.Code) string {
	if words, known := reasons[c]; known {
		return words
	}
	return string(c)
}

var reasons = map[factory.Code]string{
	factory.CodeRequest:     "the request is not well formed",
	factory.CodeForbidden:   "the certificate may not do this",
	factory.CodeNotFound:    "there is no such device or certificate",
	factory.CodeMethod:      "the request is of the wrong kind",
	factory.CodeNotDone:     "this is not implemented",
	factory.CodeOtherKey:    "the device id has another key",
	factory.CodeKeyKnown:    "the key belongs to another device id",
	factory.CodeRevoked:     "the device is revoked",
	factory.CodeOtherIssuer: "the certificate is another CA's",
	factory.CodeLotFull:     "the lot is full",
	factory.CodeLotClosed:   "the lot is closed",
	factory.CodeLotTime:     "the lot has not begun, or has ended",
	factory.CodeLotUnknown:  "no open lot was named",
	factory.CodeLotID:       "the id is not of the lot",
	factory.CodeLotStation:  "the station may not enrol under the lot",
	factory.CodeLotKnown:    "the lot is there already",
	factory.CodeScrapped:    "the device was scrapped",
	factory.CodeUnfinished:  "an enrolment is open",
	factory.CodeChanged:     "the devices have changed",
	factory.CodeOrder:       "the order is not to be applied",
	factory.CodeRate:        "the station enrols too fast",
	factory.CodeTimeout:     "the caller did not send, or did not read",
	factory.CodeNotLatest:   "the device has a later certificate",
	factory.CodeEarly:       "it is too early to renew",
	factory.CodeOften:       "the device was renewed too often",
	factory.CodeExpired:     "the certificate to renew has expired",
	factory.CodeCertificate: "the certificate to renew is not on record",
	factory.CodeRenewalKey:  "the device may not renew with this key",
	factory.CodeKeyProof:    "the old key does not vouch for the new one",
	factory.CodeTooLarge:    "the request is too long",
	factory.CodeContent:     "the request is of the wrong type",
	factory.CodePolicy:      "the request breaks a rule",
	factory.CodeEvidence:    "where the key was born is not proven",
	factory.CodeInternal:    "internal error",
	factory.CodeUnavailable: "token or store is away",
	factory.CodeClock:       "the server's clock is not believed",
	factory.CodeEnding:      "the issuing certificate ends too soon",
	factory.CodeDamaged:     "the record is damaged",
	factory.CodeHeld:        "the record is held",
}

// kind says in words what an event tells.
func kind(k record.Kind) string {
	if words, known := kinds[k]; known {
		return words
	}
	return string(k)
}

var kinds = map[record.Kind]string{
	record.Issue:    "enrolled",
	record.Reissue:  "enrolled anew, with another key",
	record.Abandon:  "an intent was closed for a new one",
	record.Revoke:   "revoked",
	record.OtherKey: "refused: another key",
	record.Scrap:    "scrapped",
	record.Swap:     "swapped",
	record.Permits:  "may be enrolled anew",
	record.LotWas:   "lot",
	record.TakenIn:  "taken in from elsewhere",
	record.Lost:     "lost: known to have been, and no more",
	record.Held:     "the record was held",
	record.Accepted: "the record was accepted",
}
