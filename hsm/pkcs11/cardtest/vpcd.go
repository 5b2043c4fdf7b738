package cardtest

import (
	"encoding/binary"
	"io"
)

// The driver's messages of one byte; longer ones are commands for the card.
const (
	powerOff = 0
	powerOn  = 1
	reset    = 2
	getATR   = 4
)

// talk answers vpcd until the connection ends. A message is its length in two bytes, then so many bytes.
func (c *Card) talk(conn io.ReadWriteCloser) {
	defer conn.Close()
	for {
		var size uint16
		if binary.Read(conn, binary.BigEndian, &size) != nil {
			return
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(conn, message); err != nil {
			return
		}
		var answer []byte
		switch {
		case size > 1:
			answer = c.command(message)
		case size == 1 && message[0] == getATR:
			answer = c.answerToReset()
		case size == 1 && message[0] <= reset:
			c.powerChanged(message[0] != powerOff)
			continue
		default:
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answerToReset is asked for at each look whether the card is still there.
func (c *Card) answerToReset() []byte { return c.atr }

// powerChanged forgets what a card without power forgets.
func (c *Card) powerChanged(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
	if on && c.powered != nil {
		close(c.powered)
		c.powered = nil
	}
}

// whenPowered gives a channel that is closed when a reader has given the card power.
func (c *Card) whenPowered() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	powered := make(chan struct{})
	c.powered = powered
	return powered
}

func (c *Card) powerOff() { c.powerChanged(false) }
