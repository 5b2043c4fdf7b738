// Package ceremony runs a key ceremony: one reviewed script, performed on tokens under a quorum of officers, into a
// folder of artefacts and a transcript that anyone can check offline.
//
// One body of code says what each step does, and it runs four times over. Script.Validate performs the script on
// specimen tokens in memory, so that whatever a step would refuse is refused before a token is touched. Run performs it
// on the tokens and journals every act: the intent before it, the result after it. Resume reads the journal of a run
// that was cut short as far as it goes and acts from there. Verify reads it whole, acts on nothing, and arrives at the
// same artefacts, byte for byte, or names the entry where script, transcript and artefacts part.
//
// Three things carry this. A Step is one kind of step, with all that concerns it in its own files. A leaf is one kind of
// entry; it knows what the form, the record and an abort say of it. A performance is how a script is performed; steps ask
// it for all that differs.
//
// What this package trusts: the process's own memory, the PKCS#11 module for what a token says of itself, and at Verify
// the roster's digest that the caller brings. An attacker who can change the script, an input, an artefact, the journal
// or the checkpoint can make a ceremony or its verification fail, naming the place; one who holds the keys of M
// officers can make a transcript of a ceremony that never was. The clock is asserted by the people present: an
// attacker who sets the machine's clock gains nothing, one who misleads the people does.
package ceremony
