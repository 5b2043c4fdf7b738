// Package reposerver speaks the HTTP API of an ota-tuf repository server, from both sides: the client that signing tools
// use, and a server for demonstrations, tests and small fleets, with a minimal Director.
// docs/spec/reposerver.md states routes, documents and rules.
//
// # What the client trusts
//
// Nothing that a server sends: metadata comes back as bytes, to be verified with package uptane. Credentials go to
// the configured server alone. A server can name any https URL as the storage of an upload and learns no credential by it;
// an attacker who controls the server can refuse or delay, and obtain whatever the caller uploads.
package reposerver
