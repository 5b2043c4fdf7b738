// Package est has the forms of EST (RFC 7030, as RFC 8951 clarifies and RFC 9908 extends it): paths, bodies, certs-only
// messages and CSR attributes. It knows no HTTP and decides nothing: who may ask, and what is certified, is package
// factory's to say.
//
// Everything that it reads is the caller's. An attacker who controls a path or a body can make it refuse, and nothing
// else: what it gives back is a label of few characters, an operation of a fixed list, and octets for csr.Parse to judge.
package est
