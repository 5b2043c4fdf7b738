package ceremony

import (
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// Anchors are the digests (SHA-256) that people hold of a finished ceremony; nil where none is given. Each that is given must hold, as what it is: a
// digest counts under its own name alone. With none of them nothing says whose the folder is.
type Anchors struct {
	// Roster is that of the ceremony's roster, or of an earlier one of its chain: the officers of each approved the next.
	Roster *[32]byte
	// Checkpoint is that of the ceremony's own checkpoint: it is this folder, and no other.
	Checkpoint *[32]byte
	// Earlier is that of the checkpoint of a ceremony that this one carries on from: its officers approved what came after.
	Earlier *[32]byte
}

func (a Anchors) given() bool { return a != Anchors{} }

// hold holds a folder to the anchors.
func (a Anchors) hold(v *verified) error {
	if a.Checkpoint != nil && quorum.Sum(v.checkpoint) != *a.Checkpoint {
		return wrongDigest(checkpointFile, "a digest from before this ceremony goes with --earlier", "is not that of the digest given: its SHA-256 is %s", hexSHA256(v.checkpoint))
	}
	roster, earlier := a.Roster == nil, a.Earlier == nil
	for _, c := range v.chain() {
		roster = roster || quorum.Sum(c.script.roster) == *a.Roster
		earlier = earlier || c != v && quorum.Sum(c.checkpoint) == *a.Earlier
	}
	if !roster {
		return wrongDigest(rosterFile, "a checkpoint's digest goes with --checkpoint, or, of an earlier ceremony, with --earlier",
			"is not the roster of the digest given, and follows from no roster of that digest: its SHA-256 is %s", hexSHA256(v.script.roster))
	}
	if !earlier {
		return wrongDigest(scriptFile, "a roster's digest goes with --roster, and that of this ceremony's own checkpoint with --checkpoint",
			"carries on from no ceremony whose checkpoint has the digest given as --earlier")
	}
	return nil
}

func wrongDigest(file, hint, format string, args ...any) error {
	return advice.New(advice.Unverified, "if the digest is typed rightly and is what you say, do not use this folder; "+hint, "%s: %w", file, fmt.Errorf(format, args...))
}
