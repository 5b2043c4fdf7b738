// Package reposerver speaks the HTTP API of an ota-tuf repository server, from both sides: the client that signing tools
// use, and a server for demonstrations, tests and small fleets, with a minimal Director.
// docs/spec/reposerver.md states routes, documents and rules.
//
// # What the client trusts
//
// Nothing that a server sends: metadata comes back as bytes, to be verified with package uptane. Credentials go to
// the configured server alone. A server can name any https URL as the storage of an upload and learns no credential by it;
// an attacker who controls the server can refuse or delay, and obtain whatever the caller uploads.
//
// # What the server trusts
//
// Its folder: an attacker who can write there can replace metadata by older metadata, or by none, and delete devices. What
// they write themselves no device believes, for it lacks the signatures. That the whole folder is older than what was
// served is seen by its high-water mark, a file elsewhere: an attacker who can write both can have it go unseen. Its key store: an attacker who can use the token
// signs snapshots, timestamps and the Director's targets, but no root and no Image targets once those are offline and
// the old keys are destroyed. Its administrators: one with credentials can push what the thresholds of offline keys have
// signed, tell devices to install any image that those have signed, and, while the root key is still the server's, replace
// the root. Gateways: whoever reaches the Devices handler says which device it is, can read what that device is told, and
// register a device that has not registered yet; a manifest they cannot forge.
//
// A device controls its own registration and its manifests, which are believed under the keys that it registered. What it
// tells beside them (events, hardware, packages) is not signed: it is kept within bounds, shown, and decides nothing.
package reposerver
