//go:build !linux

package pkcs11

func dontDump([]byte) {}
