// Package logbook says what an issuance log holds and checks what is shown of it: leaves and what they stand for, checkpoints
// that are kept, proofs, and whole logs in folders and archives. It reads the layout of C2SP tlog-tiles. Writing a log is
// factory/issuancelog's; this package needs no token, no store and no network, so that stations, the back office and auditors
// share it.
//
// # What it trusts
//
// The log's verifier key, which the caller has from the ceremony or the configuration, and a checkpoint that the caller kept.
// Nothing that is read is trusted: an attacker who can change a log's folder, an archive, an answer of the factory's server or
// a proof can make a check fail. Whoever holds the log's checkpoint key can sign another history, but none that agrees with a
// checkpoint that was kept, or that a witness cosigned.
//
// A log that is cut back together with its checkpoint agrees with itself. That is found out only by who kept a later
// checkpoint: Kept is for those.
package logbook
