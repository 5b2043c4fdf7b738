// Package tpm keeps keys in a TPM 2.0: keys below the storage hierarchy, whose private halves only this TPM can load, in a
// folder of key files (a store) or as persistent objects. A store is an hsm.Token: its label is the store's name, its serial
// number names the TPM by its endorsement key.
//
// What it trusts: the TPM, and this machine's memory. What is checked: every object that the TPM loads has the name (a digest
// of the whole public area) that was asked for, a fresh key's attributes are read back, and a fresh key must sign and verify.
//
// An attacker who can change the store's folder can remove keys, put older copies of files there and keep others from
// working, but not exchange keys: each file carries a code made with a key that the TPM gives out for the PIN alone. One who
// copies the folder has nothing without this very TPM and the PIN.
//
// An attacker on the bus between processor and TPM (or one who listens to the socket of an emulator) sees which keys are
// used and for what digests' owners, but no PIN and no secret: each use is authorised by an HMAC session that is salted to
// the storage root key, and PINs, digests to sign and secrets cross the bus encrypted. The salt is for the storage root key
// that the store recorded when it was made, so who sits on the bus later cannot offer another one. Who sat there when the
// store was made could have: the birth certificates of a ceremony (package attest) are what finds that out. Such an attacker
// can also cut the line, and change or withhold the PCR values that are read for messages; policies are held by the TPM.
//
// An attacker with this machine's root can use every key as long as the PIN is in memory, and none after that. A TPM counts
// wrong PINs for all its keys together (dictionary attack protection) and then refuses every PIN for a while; what it has
// counted is shown before a PIN is asked for. It counts a power cut as a wrong PIN, for it cannot know what it lost; a machine that is shut
// down in order counts none.
//
// A TPM has room for three objects. Each operation loads what it needs, and flushes it; callers wait for their turn. An
// emulator's socket and /dev/tpm0 have no resource manager: there each operation has the TPM alone, and first removes what a
// process that was killed left in it. /dev/tpmrm0, the default, has one.
package tpm
