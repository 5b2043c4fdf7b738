package attest

// Every bound on what is read.
const (
	maxCertificate  = 8 << 10  // octets of one certificate; an RSA-4096 one of a manufacturer has about 2 KiB
	maxChain        = 6        // certificates of one chain in the evidence
	maxRoots        = 256      // roots of one manufacturer
	maxTPMStructure = 2 << 10  // octets of one structure of a TPM; a public area of RSA-4096 has about 600
	maxEvidence     = 12 << 10 // octets of a bundle; that of a TPM with three certificates has about 5 KiB
	maxStatements   = 8
	maxText         = 128 // octets of a text taken from a certificate
	minRSABits      = 2048
	maxRSABits      = 4096
)
