// Package medium writes what a machine's firmware starts: a unified kernel image (a PE file), a FAT volume that holds it, and an
// image for CDs and sticks that a BIOS and a UEFI start; and it says what a TPM measures of the first. The same input gives the
// same bytes: there is no clock and no chance in here, and no tool of the host.
//
// Its input is the builder's own, held to packages.lock before. An attacker who can change systemd's stub, isolinux or the
// kernel owns the machine that starts them; here a file that is not shaped as expected is an error.
package medium

import "encoding/binary"

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// roundUp is the least multiple of unit that is not below n.
func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// padTo appends zeros until the length is a multiple of unit.
func padTo(b []byte, unit int) []byte {
	return append(b, make([]byte, roundUp(len(b), unit)-len(b))...)
}
