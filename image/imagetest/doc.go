// Package imagetest boots the ceremony image in a virtual machine and holds ceremonies on it, as officers do: through the menu, at a serial
// line, with sticks that are pulled. `make image-test` runs it. It has tests alone; no program links it.
//
// The virtual machine is QEMU without acceleration: nothing here needs rights of its own. What is typed and shown is kept in the test's log
// when it fails.
package imagetest
