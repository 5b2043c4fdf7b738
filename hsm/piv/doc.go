// Package piv speaks to PIV cards (NIST SP 800-73-4, part 2) by their own commands, through the machine's PC/SC service, for what PKCS#11
// has no words for: how many tries of the PIN are left, a PIN unblocked by the PUK, keys made in the card, certificates written to
// it. Signatures, decryption and everything else go through hsm/pkcs11.
//
// It trusts libpcsclite, pcscd and whoever can talk to them, who see the PINs on their way to the card, as they do when a PKCS#11 library
// sends them. An attacker who controls the card can say what they like of its tries and its keys; what it answers is bounded and parsed here, its
// signatures are verified, and an officer's enrolment is made afterwards by using the keys through PKCS#11. Whoever controls the
// reader's name chooses which card is changed: callers show what is on it first.
//
// A command that gives a PIN is sent once. Buffers that hold a PIN or the management key are wiped after.
package piv
