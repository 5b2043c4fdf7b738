// Package cardtest is a PIV card that does not exist (NIST SP 800-73-4), in readers that do not exist, for tests only: the
// machine's own pcscd and OpenSC use it as they use a card of plastic.
//
// Readers (reader.go) starts a pcscd of this process's own, whose driver is vpcd; a Card (card.go) answers its commands in this
// process. A test puts cards in and pulls them out, and can look at what is really on them: how many tries are left, which
// commands came, what was signed. Cards keep their keys in ordinary memory; nothing made with them is worth anything.
//
// It trusts whoever can connect to 127.0.0.1, and so is of no use outside tests.
package cardtest
