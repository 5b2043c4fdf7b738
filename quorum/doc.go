// Package quorum says who the officers are, what exactly they approved, and what they hold together: rosters, approvals
// in DSSE envelopes, and secrets split M of N. docs/spec/quorum.md has the bytes.
//
// It trusts one thing: the SHA-256 digest of a roster that people compared. An attacker who can change a roster changes
// its digest; one who can change approvals or share documents can make them fail, never pass; one who holds fewer than
// the threshold of officers' keys can approve nothing and learns nothing of a secret. An attacker who holds the machine
// on which a secret is put together learns that secret: re-share it afterwards. Parsers take hostile bytes and never
// panic.
package quorum
