// Package issuancelog follows the factory's record into a Merkle log: one entry for every issue, revocation, reissue and scrap,
// in the order of the record's gapless sequence, so that an entry's index in the log is its number in the record. The log is
// written by Tessera in the layout of C2SP tlog-tiles; checkpoints are signed by a key in a token and kept in the record.
// No request waits for the log.
//
// # What it trusts
//
// The record: an event that the record invents is logged. What is logged cannot be taken back unnoticed, for checkpoints go to
// stations, to trust publications and to witnesses.
//
// The log's folder is trusted for nothing. The root of every checkpoint is computed from the record's events, not from what
// the folder says, and is signed only if the folder has the same. An attacker who can change the folder makes the log stop,
// which health tells, until it is built anew from the record.
//
// The checkpoint key's token: whoever can use it can sign other histories, which disagree with checkpoints that others hold.
//
// Witnesses: their answers count only if the signature verifies. One that does not answer holds up checkpoints for whoever
// demands its cosignature, and no enrolment.
package issuancelog
