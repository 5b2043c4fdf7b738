//go:build !linux

package term

import "golang.org/x/term"

// echoOff turns off the echo of a terminal.
func echoOff(fd int) (restore func(), err error) {
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, before) }, nil
}
