// Package pkcs11 opens PKCS#11 tokens: it finds them by label and serial, logs in once, keeps a pool of sessions,
// generates keys and reads their attributes back, signs, and recovers by itself when a token went away and came back.
//
// What it trusts: the PKCS#11 library, which runs in this process and sees the PIN; an attacker who can change the
// library or the path that names it has the token. An attacker between the library and the token (a network HSM) is
// the library's affair. What the token answers is checked where it can be: attributes are read back and compared, the token must refuse
// to give a fresh key out (probe.go says what exactly is tried), the key must still be there when the session that made it is closed,
// public keys must lie on their curve, a fresh key must sign and verify, and a key found again after an outage must be the same.
// Which public key belongs to a private one is decided by the key where several share an id (halves.go).
//
// A library that answers errors until it is started anew is started anew, not more often than the errors deserve (recover.go). A
// signature whose answer was lost is made again; the caller gets one.
//
// The user PIN is asked for once and kept until Close in memory that is locked, and left out of core dumps, because
// a session lost to an outage at night must be opened again with nobody there to ask. Where the system refuses to
// lock memory, the PIN is not kept but asked from its source again. A PIN that a token refused is wiped and never tried
// again; one that it neither took nor refused is sent once more at most, for the token may count tries that it does not report (login.go). (The binding copies the PIN to the C heap for the moment of C_Login and frees it without wiping.)
//
// A token that went away is known again by label and serial, which whoever prepares a card chooses, and then gets the PIN that is kept: cards without a number
// (a CHUID) all have the serial 00000000. Who may lay hands on the reader meanwhile can have the PIN of a card that is pulled; without the card
// it is worth nothing. Programs with people ask for it each time where the URI says x-pin-policy=ask-each.
//
// A context ends every wait of ours, for a session, a turn or a token that went away, but not a call that the library does not
// return from: such a call keeps its session, and a restart of the library waits for it. Set the vendor's own time limits.
//
// C_Initialize belongs to the process, not to a caller: one registry counts who uses a library.
package pkcs11
