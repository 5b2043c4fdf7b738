// Package repo is the local repository of a release engineer or build machine, in the layout of garage-sign, and the
// credentials.zip that goes with it. The commands of hanaper-sign are thin calls into it; it never talks to a server.
//
//	<dir>/config.json                 where the server is and how to log in
//	<dir>/credentials.zip             what the repository was made from
//	<dir>/keys/NAME.pub, NAME.sec     a key; the .sec may name a key in a token instead of holding one
//	<dir>/roles/root.json             the root as last pulled or signed; <dir>/roles/N.root.json keeps each version
//	<dir>/roles/targets.json          the targets as last signed
//	<dir>/roles/targets.json.checksum what the server said the pulled targets' digest was
//	<dir>/roles/pulled/targets.json   the targets as last pulled, to compare with
//	<dir>/roles/pulled/targets.superseded.json  targets that only an earlier root vouches for, pulled to be looked through
//	<dir>/roles/unsigned/*.json       what the next sign will sign; build systems edit these, and the edit is honoured
//
// # What it trusts
//
// The files belong to the user who runs the program: an attacker who can change roles/unsigned can choose what is
// signed next, unless the signer reads the diff; one who can change roles/root.json can choose whose signatures count
// in local checks, and the server will disagree; one who can read keys/*.sec or credentials.zip has the secrets in
// them. A credentials.zip is taken apart as hostile input: bounded in size and number, names without any path.
// Directories are 0700, secrets 0600. Every write is durable and replaces the old file whole.
package repo
