// Package release reads and writes the manifest of a release, and holds a folder with a release to it.
//
// A manifest is believed only where it comes out of a ceremony that somebody verified (step sign-release): who can change the folder of a
// release chooses the rest of what lies in it, the manifest's own file and SHA256SUMS included. What this package says of a folder is worth as
// much as the manifest that it is given. An attacker who can change files while the folder is read can have the digest of one file taken and
// another one installed: copy the folder from the stick first.
package release
