// Package journal is an append-only record: an RFC 6962 Merkle tree in one file, whose checkpoints, notes and proofs
// follow C2SP (tlog-checkpoint, signed-note), so that stock tools can check them. docs/spec/journal.md has the bytes.
//
// The file is trusted for nothing. Its own checksums find accidents and name the entry; an attacker who can change the
// file can write another self-consistent one, or cut it back to an earlier state, and is found out only by a signed
// checkpoint that lies elsewhere: one must be at hand to verify a journal. An attacker who holds the checkpoint key can
// sign another history, but cannot make it consistent with a checkpoint already published. Parse and the other functions
// on bytes are for hostile input: they allocate no more than a small multiple of it, and never panic.
package journal
