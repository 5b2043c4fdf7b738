// Package apart runs a PKCS#11 library in a child process of the same program, where it can crash, hang and corrupt memory
// without the service that uses it. The child is hsm/pkcs11 as it stands; between the two goes a small protocol at the level
// of hsm.Token and hsm.Key (wire.go), over a socket pair that the child inherits. There is no address that anybody else
// could connect to.
//
// What it trusts: the program's own file, which it runs again (/proc/self/exe, so that also after an upgrade both halves are of one
// build). The child is not trusted with more than the library has in any case, which is the keys and the PIN: an attacker who
// controls the library controls the keys as long as he is there. What he cannot do any more is to read or write the memory of
// the service: its other keys, its TLS key, its database. What the child answers is parsed within bounds; a frame that is not
// well formed, too long, or answers what was not asked ends the child. The key found after a restart must be the same public key, and the first
// signature after each start is verified here; the callers verify every signature in software, as they do inside.
//
// Each call has a deadline (Limits). A call that exceeds it, a child that does not answer its pulse, dies, or answers with an error
// that only a new process heals, has the child killed and started anew, with a pause that grows while that does not help.
// Signatures and questions in flight are made again. What changes a token (a generation, a destruction, a certificate) is not: its caller
// is told that it may have happened.
//
// The PIN travels over the socket pair alone. It is kept here, in locked memory, and given to a child at each login, so that a new
// child logs in with nobody there. A PIN that was refused is wiped and never sent again, and one is not sent a third time where
// two logins in a row ended without an answer, for a token may count tries that it does not report (login.go). A child that somebody else
// killed during its login does not count among these; should the token show a wrong try after it, the PIN is not sent again either.
//
// The child has its own process group, no terminal's signals, none of the parent's descriptors but the socket, an
// environment of few variables (environment.go), no core dumps, and dies with its parent. Neither it nor the parent is dumpable, so that no
// other process of the same user can read their memory, or take the socket out of them. A library that needs the network has it: network HSMs do.
package apart
