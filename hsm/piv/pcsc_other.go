//go:build !linux

package piv

import "errors"

var errSystem = errors.New("card readers are used directly on Linux only")

// Readers lists the readers, with and without a card.
func Readers() ([]string, error) { return nil, errSystem }

type connection struct{ reader string }

func connect(reader string) (*connection, error)              { return nil, errSystem }
func (c *connection) close()                                  {}
func (c *connection) transmit(command []byte) ([]byte, error) { return nil, errSystem }
