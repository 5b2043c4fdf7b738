package quorum

// Words spells b in the PGP word list.
func Words(b []byte) string { return "" }
