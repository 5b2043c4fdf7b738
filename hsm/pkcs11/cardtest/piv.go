package cardtest

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
)

// pivAID is the application's identifier, of which a reader may send the beginning; version is what follows it.
var pivAID, pivVersion = []byte{0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0}, []byte{1, 0}

// perform is one command of SP 800-73-4, part 2, section 3. The caller holds mu.
func (c *Card) perform(a apdu) ([]byte, status) {
	fresh := c.fresh
	c.fresh = false // the PIN of slot 9C counts for the very next command
	if a.ins == 0xa4 {
		return c.selectPIV(a)
	}
	if !c.selected {
		return nil, wrongState
	}
	switch a.ins {
	case 0x20:
		return nil, c.verify(a)
	case 0x24:
		return nil, c.changeReference(a)
	case 0x2c:
		return nil, c.resetRetries(a)
	case 0xcb:
		return c.getData(a)
	case 0xdb:
		return nil, c.putData(a)
	case 0x87:
		if a.p2 == 0x9b {
			return c.authenticateManager(a)
		}
		return c.useKey(a, fresh)
	case 0x47:
		return c.generate(a)
	case 0xfd: // Yubico's own: the firmware's version
		if c.yubico != 0 {
			return []byte{5, 4, 3}, ok
		}
	case 0xf7: // what it says of a slot
		if c.yubico != 0 {
			return c.metadata(a.p2)
		}
	case 0xf8: // and the serial number
		if c.yubico != 0 {
			return binary.BigEndian.AppendUint32(nil, c.yubico), ok
		}
	}
	return nil, noInstruction
}

func (c *Card) selectPIV(a apdu) ([]byte, status) {
	whole := append(bytes.Clone(pivAID), pivVersion...)
	if a.p1 != 4 || len(a.data) < 5 || !bytes.HasPrefix(whole, a.data) {
		return nil, noObject // and the application stays selected
	}
	if !c.selected {
		c.forget()
	}
	c.selected = true
	return tlv(0x61, tlv(0x4f, whole[5:]), tlv(0x79, tlv(0x4f, pivAID[:5]))), ok
}

// metadata is what a YubiKey tells of the management key, or of a key in a slot: algorithm, policies, origin, public key.
func (c *Card) metadata(slot byte) ([]byte, status) {
	if slot == 0x9b {
		return append(tlv(1, []byte{3}), tlv(2, []byte{0, 1})...), ok
	}
	key, is := c.keys[Slot(slot)].(crypto.Signer)
	if !is {
		return nil, noObject
	}
	algorithm := byte(rsa2048)
	if k, is := c.keys[Slot(slot)].(*ecdsa.PrivateKey); is {
		algorithm = ecAlgorithm(k)
	}
	_, public, _, err := next(publicTemplate(key))
	if err != nil {
		return nil, wrongState
	}
	return bytes.Join([][]byte{tlv(1, []byte{algorithm}), tlv(2, []byte{3, 1}), tlv(3, []byte{1}), tlv(4, public)}, nil), ok
}

// reference is the PIN or the PUK.
func (c *Card) reference(p2 byte) *secret {
	return map[byte]*secret{0x80: &c.pin, 0x81: &c.puk}[p2]
}

func (c *Card) verify(a apdu) status {
	switch {
	case a.p2 != 0x80:
		return noReference
	case a.p1 == 0xff:
		c.verified = false
		return ok
	case a.p1 != 0:
		return wrongReference
	case len(a.data) == 0 && c.verified:
		return ok
	case len(a.data) == 0 && c.pin.left == 0:
		return blocked
	case len(a.data) == 0:
		return verifyFailed | status(c.pin.left)
	case len(a.data) != 8:
		return wrongData // no try is counted
	}
	s := c.pin.compare(a.data)
	c.verified = s == ok
	c.fresh = c.verified
	return s
}

func (c *Card) changeReference(a apdu) status {
	r := c.reference(a.p2)
	switch {
	case r == nil || a.p1 != 0:
		return noReference
	case len(a.data) != 16 || !takes(a.p2, a.data[8:]):
		return wrongData
	}
	s := r.compare(a.data[:8])
	if s == ok {
		r.set(a.data[8:])
	}
	if a.p2 == 0x80 {
		c.verified = s == ok
	}
	return s
}

// takes says whether a new PIN has 6 to 8 digits, filled up with 0xff, or a PUK 8 bytes.
func takes(p2 byte, value []byte) bool {
	digits := bytes.TrimRight(value, "\xff")
	if p2 == 0x81 {
		return len(digits) == 8
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return false
		}
	}
	return len(digits) >= 6
}

func (c *Card) resetRetries(a apdu) status {
	if a.p1 != 0 || a.p2 != 0x80 || len(a.data) != 16 || !takes(0x80, a.data[8:]) {
		return wrongData
	}
	s := c.puk.compare(a.data[:8])
	if s == ok {
		c.pin.set(a.data[8:])
	}
	c.verified = false
	return s
}

// discovery says that the application has a PIN of its own and no global one.
const discovery = 0x7e

func (c *Card) getData(a apdu) ([]byte, status) {
	tag, value, _, err := next(a.data)
	if a.p1 != 0x3f || a.p2 != 0xff || err != nil || tag != 0x5c {
		return nil, wrongData
	}
	object := number(value)
	if object == discovery {
		return tlv(discovery, tlv(0x4f, pivAID, pivVersion), tlv(0x5f2f, []byte{0x40, 0})), ok
	}
	data, has := c.objects[object]
	if !has {
		return nil, noObject
	}
	return tlv(0x53, data), ok
}

func (c *Card) putData(a apdu) status {
	if !c.managed {
		return notAuthenticated
	}
	values, err := fields(a.data)
	data, has := values[0x53]
	if a.p1 != 0x3f || a.p2 != 0xff || err != nil || !has {
		return wrongData
	}
	object := number(values[0x5c])
	if len(data) == 0 {
		delete(c.objects, object)
	} else {
		c.objects[object] = bytes.Clone(data)
	}
	return ok
}

func number(b []byte) (n uint32) {
	for _, v := range b {
		n = n<<8 | uint32(v)
	}
	return n
}

func (c *Card) generate(a apdu) ([]byte, status) {
	slot := Slot(a.p2)
	if !c.managed {
		return nil, notAuthenticated
	}
	if _, has := objectOf[slot]; !has {
		return nil, wrongReference
	}
	tag, value, _, err := next(a.data)
	if err != nil || tag != 0xac {
		return nil, wrongData
	}
	control, err := fields(value)
	if err != nil || len(control[0x80]) != 1 {
		return nil, wrongData
	}
	key, err := makeKey(algorithmName(control[0x80][0]))
	if err != nil {
		return nil, wrongData
	}
	c.keys[slot] = key
	return publicTemplate(key), ok
}

// useKey signs, decrypts or agrees with the key in a slot.
func (c *Card) useKey(a apdu, fresh bool) ([]byte, status) {
	slot := Slot(a.p2)
	key, has := c.keys[slot]
	switch {
	case !has:
		return nil, noReference
	case slot == Signature && !fresh, slot != CardAuthentication && !c.verified:
		return nil, notAuthenticated
	}
	values, s := dynamic(a.data)
	if s != ok {
		return nil, s
	}
	var out []byte
	if point, is := values[0x85]; is {
		out, s = agree(key, a.p1, point)
	} else {
		out, s = sign(key, a.p1, values[0x81])
	}
	if s != ok {
		return nil, s
	}
	return tlv(0x7c, tlv(0x82, out)), ok
}

// dynamic opens the Dynamic Authentication Template (SP 800-73-4, part 2, table 7).
func dynamic(data []byte) (map[uint32][]byte, status) {
	tag, value, _, err := next(data)
	if err != nil || tag != 0x7c {
		return nil, wrongData
	}
	values, err := fields(value)
	if err != nil {
		return nil, wrongData
	}
	return values, ok
}

// authenticateManager is mutual or external authentication with the management key.
func (c *Card) authenticateManager(a apdu) ([]byte, status) {
	if a.p1 != tripleDES && a.p1 != 0 {
		return nil, wrongReference
	}
	block, err := des.NewTripleDESCipher(c.key9B)
	if err != nil {
		return nil, wrongData
	}
	values, s := dynamic(a.data)
	if s != ok {
		return nil, s
	}
	witness, hasWitness := values[0x80]
	challenge, hasChallenge := values[0x81]
	response, hasResponse := values[0x82]
	switch {
	case hasWitness && len(witness) == 0: // mutual, first step: prove that you can read this
		c.witness = random(block)
		return tlv(0x7c, tlv(0x80, encrypt(block, c.witness))), ok
	case hasWitness && hasChallenge && c.witness != nil:
		right := subtle.ConstantTimeCompare(witness, c.witness) == 1 && len(challenge) == block.BlockSize()
		if c.witness = nil; !right {
			return nil, notAuthenticated
		}
		c.managed = true
		return tlv(0x7c, tlv(0x82, encrypt(block, challenge))), ok
	case hasChallenge && len(challenge) == 0: // external, first step: encrypt this
		c.challenge = random(block)
		return tlv(0x7c, tlv(0x81, c.challenge)), ok
	case hasResponse && c.challenge != nil:
		right := subtle.ConstantTimeCompare(response, encrypt(block, c.challenge)) == 1
		if c.challenge = nil; !right {
			return nil, notAuthenticated
		}
		c.managed = true
		return nil, ok
	}
	return nil, wrongData
}

func random(block cipher.Block) []byte {
	b := make([]byte, block.BlockSize())
	rand.Read(b)
	return b
}

func encrypt(block cipher.Block, data []byte) []byte {
	out := make([]byte, block.BlockSize())
	block.Encrypt(out, data)
	return out
}
