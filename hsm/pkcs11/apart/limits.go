package apart

import (
	"cmp"
	"time"
)

// Limits are how long the library may take, and what else it gets. A zero time means the default.
type Limits struct {
	// Start is how long the child may take to load the library and find the token: 15 s.
	Start time.Duration
	// Login is how long the login may take, from the moment when the PIN is at hand: 60 s. It is long because a login that is cut short may
	// count as a wrong try.
	Login time.Duration
	// Sign is how long one signature may take: 10 s.
	Sign time.Duration
	// Generate is how long the generation of a key may take: 10 minutes, for cards make RSA keys slowly.
	Generate time.Duration
	// Call is how long any other call may take: 30 s.
	Call time.Duration
	// Environment names variables that the child inherits besides those that Variables tells.
	Environment []string
}

func (l Limits) complete() Limits {
	l.Start = cmp.Or(l.Start, 15*time.Second)
	l.Login = cmp.Or(l.Login, time.Minute)
	l.Sign = cmp.Or(l.Sign, 10*time.Second)
	l.Generate = cmp.Or(l.Generate, 10*time.Minute)
	l.Call = cmp.Or(l.Call, 30*time.Second)
	return l
}

// Every other bound in one place. Sizes are in bytes.
const (
	// maxRequest holds the longest message that is signed as a whole (Ed25519): a CRL of 400,000 entries.
	maxRequest = 16 << 20
	// maxAnswer holds the list of some thousand keys.
	maxAnswer = 4 << 20
	// maxText bounds an error's text and hint.
	maxText = 8 << 10
	// maxSaid is how much is kept of what a library says on standard error: a crash's report.
	maxSaid = 64 << 10
	// maxSessions bounds what a child says of its sessions.
	maxSessions = 4096

	// pulse is the time between two questions whether the child is there, and missed how many in a row it may leave unanswered. They
	// are answered beside the library: a library that hangs is found by its deadline, a child that is stopped by its pulse.
	pulse  = 150 * time.Millisecond
	missed = 6
	// patientMissed is missed while a key is generated, which is not made again.
	patientMissed = 60

	// maxAsks is how often a child may ask for the PIN within a pulse: a library that serves several keys logs in for each.
	maxAsks = 64

	// margin is how much earlier than its deadline a call ends by itself in the child, where the library returns.
	margin = 500 * time.Millisecond
	// patience is how long a call without a deadline waits for a library that is being started anew.
	patience = 30 * time.Second
	// tries is how often a call that ended with its child is made. A call that crashes the library would do so for ever.
	tries = 4

	// The pause between two starts doubles from the first to the longest, unless the child before answered a call.
	firstPause, longestPause = 50 * time.Millisecond, time.Second
	// Children that answer with errors which only a new process heals are ended for it not more often than this, doubling while it does not help.
	shortestSickPause, longestSickPause = time.Second, time.Minute
	// maxDoubts is how many children in a row may get the PIN and end without a word about it.
	maxDoubts = 2
	// ahead is how many requests a session are sent to the child at once, so that none of its sessions waits for the next one on its way.
	ahead = 8
	// quick is the time of a signature below which a child sends several answers together, while it has more to sign.
	quick = 500 * time.Microsecond
	// longestPrompt is how long a person may take to type the PIN.
	longestPrompt = 50 * time.Minute
	// closeTime is how long a child may take to log out and end.
	closeTime = 3 * time.Second
)
