// Package uptane builds, signs, compares and verifies the Image and Director metadata of OTA Connect style Uptane
// servers: root, targets, delegations, snapshot and timestamp, in exactly the bytes that the ota-tuf server, the
// garage-sign tool and the aktualizr client read and write. docs/spec/uptane.md states the format.
//
// # What it trusts
//
// Nothing that it reads. A document is trusted only after a function whose name begins with Verify has returned it,
// and then only as far as the root that the caller passed in as trusted. An attacker who can change a metadata file
// can make verification fail, and nothing else; one who holds fewer keys than a threshold can do no more than one
// who holds none. One who controls the clock passed in as now can revive expired metadata. One who controls a signing
// token is found out before its signature leaves the process, for every signature is verified in software first.
//
// # What it refuses
//
// A real device refuses some metadata that looks valid, and a real server refuses some that devices accept. The
// package refuses both, when it builds (New..., Sign, Emit) and when it reads (Parse..., Verify...), so that what
// leaves it works in the field: elliptic-curve keys, one key under two key ids, key ids that are not the digest of
// their key, repeated signatures, a PSS salt that is not 32 bytes, fractions of a second, characters above 0x7e,
// numbers that are no 64-bit integer, duplicate or unexpected members, sizes above the client's limits, thresholds
// that cannot be met, and root versions that are not exactly one more than the last.
//
// # Compatibility
//
// The bytes of the signed part are the contract with every device in the field. They must not change for the same
// content: a change in key order, in escaping or in an absent field invalidates signatures that officers made offline.
package uptane
