// Package attest turns evidence of where a key was born into a Verdict. It does no I/O, asks no clock and no network.
//
// Evidence is what a chip says of a key that it holds: a TPM 2.0 through TPM2_Certify, a PIV card or YubiHSM through a
// certificate, an Android key store through a certificate with a key description. All of it comes from the machine that
// wants something, and none of it is trusted. What is trusted, and by whom it is held:
//
//   - Manufacturers: the roots that the caller has pinned, each for one kind of chip. An attacker who can change them, or
//     who holds the key of a chip from one of them (also of another customer's chip), can vouch for keys. No certificate in
//     the evidence is trusted for being there.
//   - Want: what the caller knows by itself: which key it is about, the qualifying data that this proof and no other was
//     made for, and that the attestation key was activated. An attacker who can choose the qualifying data can present an
//     old proof.
//
// A Verdict exists only if every check passed. It says that a chip of that manufacturer made the key inside and does not
// let it out. It does not say that the chip is in the device that the request names, nor who may use the key there.
package attest
