package cardtest

import "encoding/binary"

// apdu is a command (ISO/IEC 7816-4, section 5.1).
type apdu struct {
	cla, ins, p1, p2 byte
	data             []byte
	expected         int // of the answer, at most; 0 if none is expected
}

// status is the two bytes at the end of an answer.
type status uint16

const (
	ok               status = 0x9000
	moreData         status = 0x6100
	verifyFailed     status = 0x63c0 // and the tries left
	wrongLength      status = 0x6700
	notAuthenticated status = 0x6982
	blocked          status = 0x6983
	wrongState       status = 0x6985
	wrongData        status = 0x6a80
	noObject         status = 0x6a82
	wrongReference   status = 0x6a86
	noReference      status = 0x6a88
	noInstruction    status = 0x6d00
)

func parseAPDU(raw []byte) (apdu, bool) {
	if len(raw) < 4 {
		return apdu{}, false
	}
	a := apdu{cla: raw[0], ins: raw[1], p1: raw[2], p2: raw[3]}
	body := raw[4:]
	short := func(b byte) int {
		if b == 0 {
			return 256
		}
		return int(b)
	}
	long := func(b []byte) int {
		if n := int(binary.BigEndian.Uint16(b)); n != 0 {
			return n
		}
		return 65536
	}
	switch {
	case len(body) == 0:
	case len(body) == 1:
		a.expected = short(body[0])
	case body[0] != 0:
		n := int(body[0])
		switch len(body) {
		case 1 + n:
		case 2 + n:
			a.expected = short(body[1+n])
		default:
			return apdu{}, false
		}
		a.data = body[1 : 1+n]
	case len(body) == 3:
		a.expected = long(body[1:])
	case len(body) < 3:
		return apdu{}, false
	default:
		n := int(binary.BigEndian.Uint16(body[1:3]))
		switch len(body) {
		case 3 + n:
		case 5 + n:
			a.expected = long(body[3+n:])
		default:
			return apdu{}, false
		}
		a.data = body[3 : 3+n]
	}
	return a, true
}

// command answers one command: it joins those that are chained (CLA bit 0x10), and cuts answers that are longer than expected.
func (c *Card) command(raw []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, valid := parseAPDU(raw)
	if !valid {
		return binary.BigEndian.AppendUint16(nil, uint16(wrongLength))
	}
	if a.ins == 0xc0 {
		return c.cut(c.remaining, ok, a.expected)
	}
	c.remaining = nil
	c.chain = append(c.chain, a.data...)
	if a.cla&0x10 != 0 {
		return binary.BigEndian.AppendUint16(nil, uint16(ok))
	}
	a.data, c.chain = c.chain, nil
	command := Command{Instruction: a.ins, P1: a.p1, P2: a.p2}
	if before := c.before; before != nil {
		c.mu.Unlock()
		before(command)
		c.mu.Lock()
	}
	data, s := c.perform(a)
	command.Status = uint16(s)
	c.log = append(c.log, command)
	return c.cut(data, s, a.expected)
}

// cut gives as much of the answer as fits, and keeps the rest for GET RESPONSE.
func (c *Card) cut(data []byte, s status, expected int) []byte {
	if expected == 0 {
		expected = 256
	}
	n := min(len(data), expected)
	if c.remaining = data[n:]; len(c.remaining) > 0 {
		s = moreData | status(min(len(c.remaining), 256)&0xff)
	}
	return binary.BigEndian.AppendUint16(append([]byte{}, data[:n]...), uint16(s))
}
