// Package trust holds what the gateways of one environment must believe: its Fleet Roots, its issuing CAs, their CRLs
// and a gateway policy, as a standard TUF repository (https://theupdateframework.github.io/specification/, 1.0.31).
// The format is described in docs/spec/trust.md.
//
// Two halves, two kinds of keys. The officers build and sign the offline half (root and targets) in a ceremony:
// Prepare, then Prepared.Sign. The back office adds the online half (the delegated role "crl", snapshot and timestamp)
// with keys of its own: Publisher. Readers open both: Open and OpenAfter give a View, which exists only if every check
// passed.
//
// What this package trusts: the pinned root (a Pin), and the clock it is given. It trusts no file. An attacker who can
// change the files can at most make them unreadable, until the last good View expires. One who also holds the
// timestamp key can hold updates back for as long as the snapshot and the officers' metadata live; one who holds all
// online keys can withhold CRLs for as long as those live, and can publish CRLs that a named CA really signed, but can
// neither release a revoked serial nor lower a CRL number, nor touch roots, CAs or policy. One who also holds an
// issuing CA's key still cannot make a reader that has seen a serial revoked forget it. Only a threshold of officers can
// loosen anything.
package trust
