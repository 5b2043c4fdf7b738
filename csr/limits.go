package csr

// Every bound on what is read.
const (
	maxDER        = 16 << 10 // octets of a request; an RSA-4096 one with 64 names has about 4 KiB
	maxPEM        = 24 << 10 // octets of its PEM
	maxAttributes = 16       // of a subject
	maxValue      = 128      // characters of a subject attribute without a smaller bound of its own
	maxExtensions = 16
	maxSANs       = 64
	maxSAN        = 512 // octets of one name
	minRSAPublic  = 65537
)
