package ca

import "crypto/elliptic"

func p224Curve() elliptic.Curve { return elliptic.P224() }
