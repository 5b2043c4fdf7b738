// Package factory enrols devices on the production line: it takes their certification requests from stations, records
// what it is about to do, signs in the token, records what it did, and only then answers. It also revokes, and keeps the
// issuing key's CRL fresh.
//
// It trusts the issuing token, the store and the Operations Root. A request reaches it only over TLS with a client
// certificate under that root whose URI SAN says station or operator; everything in the body is the attacker's. One
// who holds a station's key can have certificates made for device ids that have none yet, under that station's name, and
// can neither replace a device's certificate nor revoke one. One who can write to the store can make devices be
// forgotten or refused, but cannot make a certificate. One who can use the issuing token can; that is why it serves
// nothing else.
package factory
