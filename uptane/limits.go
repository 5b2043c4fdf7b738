package uptane

import "github.com/hanaper/hanaper/internal/format"

// Limits are the sizes in bytes above which a client stops reading a document. The client built from aktualizr has
// these numbers compiled in; a fleet with other builds may raise them with WithLimits or in a config's Limits field.
type Limits struct {
	Root            int // any root.json
	ImageTargets    int // the Image repository's targets.json and each delegation
	DirectorTargets int // the Director's targets.json
	Snapshot        int
	Timestamp       int
}

// DefaultLimits are those of the client.
func DefaultLimits() Limits {
	return Limits{
		Root:            64 << 10,
		ImageTargets:    8 << 20,
		DirectorTargets: 64 << 10,
		Snapshot:        64 << 10,
		Timestamp:       64 << 10,
	}
}

// Bounds that hold whatever the sizes are.
const (
	// MaxThreshold is the highest threshold that the client accepts; 1 is the lowest.
	MaxThreshold = 1000
	// MaxSignatures bounds the signatures of one document, known and unknown ones together.
	MaxSignatures = 1000
	// MaxVersion is the highest version: the client reads it into a 32-bit signed integer.
	MaxVersion = 1<<31 - 1
	// LastRoom is the version above which there is no room to count on: nobody comes there but by a thief's hand or a slip.
	LastRoom = 1 << 30
	// MaxRotations bounds the roots of one chain.
	MaxRotations = 1000
	// MaxDelegationDepth is how many delegations deep the client looks for a target.
	MaxDelegationDepth = 5
	// MaxDelegations bounds the roles that one document delegates to.
	MaxDelegations = 1000
	// MaxTargetName is the longest file name of a target, in characters.
	MaxTargetName = 253
	// MaxPathPattern is the longest path pattern of a delegation, in characters.
	MaxPathPattern = 253
	// MaxDelegationName is the longest name of a delegated role, in characters.
	MaxDelegationName = 50
	// MaxHardwareID is the longest hardware identifier, in characters.
	MaxHardwareID = 200
	// MaxECUSerial is the longest ECU serial, in characters.
	MaxECUSerial = 64
	// maxDepth bounds the nesting of a JSON document.
	maxDepth = 64
	// maxKeyFile bounds a public key's JSON in bytes.
	maxKeyFile = 16 << 10
	// maxBundle bounds a request or a response in bytes: an image targets.json before and after, escaped, with room.
	maxBundle = 64 << 20
	// maxPolicy bounds a policy file in bytes.
	maxPolicy = 64 << 10
)

type options struct {
	asOf   format.Version
	limits Limits
	local  bool
}

// rawFactor is how much longer than its canonical form a local file may be, for it may be indented.
const rawFactor = 8

// Option changes how a document is read.
type Option func(*options)

// WithLimits reads with other limits than the client's own.
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

// Local reads a file that lies on this machine and may be indented for people: the limits then hold for its canonical
// form alone. What a server serves is read without it, for a device stops reading at the limit.
func Local() Option { return func(o *options) { o.local = true } }

// AsOf reads by what was known of weak keys when a format of ceremonies was the newest.
func AsOf(v format.Version) Option { return func(o *options) { o.asOf = v } }

func optionsOf(opts []Option) options {
	o := options{limits: DefaultLimits()}
	for _, f := range opts {
		f(&o)
	}
	return o
}
