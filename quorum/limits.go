package quorum

// The bounds of the formats. A reader refuses what lies outside.
const (
	// MaxOfficers bounds the officers of a roster, of all roles together.
	MaxOfficers = 64
	// MaxDocument bounds a roster, an enrolment or a share document, in bytes.
	MaxDocument = 1 << 20
	// MaxEnvelope bounds a DSSE envelope, in bytes.
	MaxEnvelope = 8 << 20
	// MaxInputs bounds the pinned inputs of a statement.
	MaxInputs = 4096
	// MaxName bounds the name of an officer, an environment or a verb, in bytes.
	MaxName = 64
	// minRSA and maxRSA bound an RSA modulus, in bits.
	minRSA = 2048
	maxRSA = 8192
)
