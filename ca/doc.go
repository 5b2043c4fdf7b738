// Package ca turns a profile and a request into a certificate or a CRL, and holds both to rules of its own.
//
// It does no I/O, knows no HTTP and no database. It trusts its caller for the clock, the randomness and the choice of
// profile, and nobody for the rest: the key's signature is verified in software before it is returned, and what is signed
// is compared with what was checked. An attacker who can choose a Template can get what the Profile allows and the rules
// permit, once per call that the caller makes; one who can change the Profile is bound by the rules alone; one who controls
// the key needs no package.
//
// # Issuing
//
// Prepare builds the DER of the TBSCertificate and, around it, a specimen: a certificate with a signature of the right
// form that no key made (r = s = 1 for ECDSA, constant octets otherwise). The specimen is parsed by crypto/x509 and held
// to every rule, so that all refusals come before the key is touched. A throw-away key, as others use, would prove no more
// about the TBSCertificate and cost two operations for each certificate; in the factory that is a third of the time.
// Sign then signs those same octets, verifies the signature once, and compares the finished certificate's TBSCertificate
// with the specimen's. crypto/x509.CreateCertificate is not used, for it would build the octets a second time.
package ca
