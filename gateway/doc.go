// Package gateway terminates mutual TLS for a fleet: it admits a device by the one CN of a certificate that chains to a
// Fleet Root of its environment, remembers it, and forwards its requests upstream with its identity in a header.
//
// What this package trusts: the trust view (package trust, verified before it gets here), its own TLS key, its config
// file, its registry and the upstream it forwards to. It trusts nothing that a device sends.
//
// An attacker who controls a device's requests can reach the upstream as that device and as no other: the identity
// header is set after every spelling of it has been removed. One who holds a stolen certificate but not its key gets no
// further than the handshake: nothing is registered, counted as seen or flagged before the key has been proven (a
// refusal in the handshake says so in its log line). One who controls the trust source can hold the gateway on old
// trust until that expires, and then nothing is admitted. One who can write the registry can make the gateway refuse
// devices and forget them, but not admit one that the trust view refuses. One who reads the TLS key can pose as the
// gateway, not as a device.
package gateway
