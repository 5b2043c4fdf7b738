package reposerver

// Digest is for the tests outside the package.
var Digest = digestOf
