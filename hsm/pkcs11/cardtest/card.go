package cardtest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"sync"
	"testing"
)

// What a new card has, as the makers of cards deliver them.
const (
	DefaultPIN = "123456"
	DefaultPUK = "12345678"
	// DefaultManagementKey is that of 3DES, in hexadecimal.
	DefaultManagementKey = "010203040506070801020304050607080102030405060708"
	// Tries is how many wrong PINs, or PUKs, in a row lock.
	Tries = 3
)

// Slot is a key reference (SP 800-73-4, part 1, table 4b).
type Slot byte

// The slots for keys.
const (
	Authentication     Slot = 0x9a // any use once the PIN was given
	Signature          Slot = 0x9c // the PIN is wanted before each signature
	KeyManagement      Slot = 0x9d // decryption and key agreement
	CardAuthentication Slot = 0x9e // no PIN
)

// objectOf is where a slot's certificate is.
var objectOf = map[Slot]uint32{Authentication: 0x5fc105, Signature: 0x5fc10a, KeyManagement: 0x5fc10b, CardAuthentication: 0x5fc101}

// Command is a command that the card was given, and its answer's status. What it carried is not kept.
type Command struct {
	Instruction, P1, P2 byte
	Status              uint16
}

// secret is the PIN or the PUK.
type secret struct {
	value [8]byte // filled up with 0xff
	left  int
}

// Card is a PIV card. Its methods may be called while it is in a reader.
type Card struct {
	mu       sync.Mutex
	atr      []byte
	pin, puk secret
	key9B    []byte // the management key, of 3DES
	keys     map[Slot]crypto.PrivateKey
	objects  map[uint32][]byte
	// PIN retries etc. are kept when the card is without power; what follows is not.
	selected, verified, fresh, managed bool
	challenge, witness                 []byte
	chain, remaining                   []byte
	powered                            chan struct{}

	log    []Command
	before func(Command)
	yubico uint32 // the serial number of a card that also speaks as Yubico's do
}

// AsYubiKey has the card answer those commands of Yubico's own by which programs know a YubiKey, with this serial number and firmware
// 5.4.3, and gives the card back. Attestation it does not have.
func (c *Card) AsYubiKey(serial uint32) *Card {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.yubico = serial
	return c
}

// NewCard is a blank card: no keys, no certificates, no CHUID, and the PIN, PUK and management key that makers set.
func NewCard() *Card {
	c := &Card{
		atr:     []byte{0x3b, 0x80, 0x01, 0x81}, // T=1, and nothing else to say
		keys:    map[Slot]crypto.PrivateKey{},
		objects: map[uint32][]byte{},
		key9B:   bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3),
	}
	c.pin.set([]byte(DefaultPIN))
	c.puk.set([]byte(DefaultPUK))
	return c
}

// chuid is the Card Holder Unique Identifier, by which OpenSC gives the token its serial number: a FASC-N that is no agency's, a
// GUID, an expiry date.
const chuid = 0x5fc102

// WithSerial gives the card a CHUID with a random GUID, as tools that prepare cards do, and gives the card back.
func (c *Card) WithSerial() *Card {
	guid := make([]byte, 16)
	rand.Read(guid)
	fascN := []byte{0xd4, 0xe7, 0x39, 0xda, 0x73, 0x9c, 0xed, 0x39, 0xce, 0x73, 0x9d, 0x83, 0x68, 0x58, 0x21, 0x08, 0x42, 0x10, 0x84, 0x21, 0xc8, 0x42, 0x10, 0xc3, 0xeb}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[chuid] = append(append(append(append(tlv(0x30, fascN), tlv(0x34, guid)...), tlv(0x35, []byte("20401231"))...), tlv(0x3e)...), tlv(0xfe)...)
	return c
}

// Log gives the commands that came since the last call.
func (c *Card) Log() []Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log
	c.log = nil
	return log
}

// Before has f called before each command is performed, without a status; f may pull the card (Readers.Snatch). nil ends it.
func (c *Card) Before(f func(Command)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = f
}

// TriesLeft says how many tries PIN and PUK have left.
func (c *Card) TriesLeft() (pin, puk int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pin.left, c.puk.left
}

// SetPIN sets the PIN, as if by a tool.
func (c *Card) SetPIN(pin string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pin.set([]byte(pin))
}

// SetPUK sets the PUK, as if by a tool.
func (c *Card) SetPUK(puk string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puk.set([]byte(puk))
}

// SetTries sets how many tries are left.
func (c *Card) SetTries(pin, puk int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pin.left, c.puk.left = pin, puk
}

// Public is the public half of the key in a slot; nil if there is none.
func (c *Card) Public(slot Slot) crypto.PublicKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, is := c.keys[slot].(crypto.Signer); is {
		return k.Public()
	}
	return nil
}

// Put makes a key in a slot, and writes a certificate of its own about it, as a tool would that prepares the card: name is the
// certificate's common name. Algorithms are "RSA-2048", "P-256" and "P-384".
func (c *Card) Put(t testing.TB, slot Slot, algorithm, name string) crypto.PublicKey {
	t.Helper()
	key, err := makeKey(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := selfSigned(key, name)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[slot] = key
	c.objects[objectOf[slot]] = append(append(tlv(0x70, cert), tlv(0x71, []byte{0})...), tlv(0xfe)...)
	return key.Public()
}

func (s *secret) set(value []byte) {
	s.left = Tries
	for i := range s.value {
		s.value[i] = 0xff
	}
	copy(s.value[:], value)
}

// compare counts a wrong try, and sets the counter anew after a right one.
func (s *secret) compare(value []byte) status {
	switch {
	case s.left == 0:
		return blocked
	case !bytes.Equal(value, s.value[:]):
		if s.left--; s.left == 0 {
			return blocked
		}
		return verifyFailed | status(s.left)
	}
	s.left = Tries
	return ok
}

// forget is what a card does when it loses power, or another application is selected.
func (c *Card) forget() {
	c.selected, c.verified, c.fresh, c.managed = false, false, false, false
	c.challenge, c.witness, c.chain, c.remaining = nil, nil, nil, nil
}
