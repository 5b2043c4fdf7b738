package piv

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"

	"github.com/hanaper/hanaper/internal/advice"
)

// ParseManagementKey reads a management key: 32, 48 or 64 hexadecimal digits, with colons or blanks between bytes or without. The caller wipes it.
func ParseManagementKey(text []byte) ([]byte, error) {
	digits := make([]byte, 0, len(text))
	defer func() { clear(digits) }()
	for _, b := range text {
		if b != ':' && b != ' ' && b != '\n' && b != '\r' {
			digits = append(digits, b)
		}
	}
	key := make([]byte, len(digits)/2)
	if _, err := hex.Decode(key, digits); err != nil || len(key) != 16 && len(key) != 24 && len(key) != 32 {
		clear(key)
		return nil, advice.New(advice.Usage, "write 48 digits (three-key Triple DES or AES-192), 32 (AES-128) or 64 (AES-256)", "a management key is written in hexadecimal digits")
	}
	return key, nil
}

// MakersKey is the management key of the cards of several makers as they are delivered. Everybody knows it.
func MakersKey() []byte { return bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3) }

// ciphers are the algorithms that a management key of a length can be for, in the order in which they are tried (SP 800-78-4, table 6-2).
func ciphers(key []byte) (list []struct {
	id   byte
	make func([]byte) (cipher.Block, error)
}) {
	add := func(id byte, f func([]byte) (cipher.Block, error)) {
		list = append(list, struct {
			id   byte
			make func([]byte) (cipher.Block, error)
		}{id, f})
	}
	switch len(key) {
	case 16:
		add(0x08, aes.NewCipher)
	case 24:
		add(0x03, des.NewTripleDESCipher)
		add(0x0a, aes.NewCipher)
	case 32:
		add(0x0c, aes.NewCipher)
	}
	return list
}

// Manage gives the management key: card and program prove to each other that they have it (SP 800-73-4, part 2, section 3.2.4).
// A card that has another key is told apart before anything is sent that the key protects.
func (c *Card) Manage(key []byte) error {
	err := errors.New("a management key has 16, 24 or 32 bytes")
	for _, a := range ciphers(key) {
		var block cipher.Block
		if block, err = a.make(key); err != nil {
			break
		}
		if err = c.prove(a.id, block); err == nil {
			return nil
		}
		if !errors.Is(err, status(0x6a86)) && !errors.Is(err, status(0x6a80)) && !errors.Is(err, status(0x6a88)) {
			break // it knows the algorithm
		}
	}
	return advice.New(advice.Failed, "it is not the PIN: it was set when the card was prepared, or is the maker's", "%s: the management key is refused: %w", c.name(), err)
}

// prove is the mutual authentication: we decrypt the card's witness, and the card encrypts our challenge.
func (c *Card) prove(algorithm byte, block cipher.Block) error {
	ask := func(data []byte, tag uint32) ([]byte, error) {
		answer, err := c.send(apdu{ins: 0x87, p1: algorithm, p2: 0x9b, data: encode(0x7c, data)})
		if err != nil {
			return nil, err
		}
		if answer, err = inside(answer, 0x7c); err != nil {
			return nil, err
		}
		value, err := inside(answer, tag)
		if err == nil && len(value) != block.BlockSize() {
			err = errTLV
		}
		return value, err
	}
	witness, err := ask(encode(0x80), 0x80)
	if err != nil {
		return err
	}
	plain, challenge, want := make([]byte, len(witness)), make([]byte, len(witness)), make([]byte, len(witness))
	defer clear(plain)
	block.Decrypt(plain, witness)
	rand.Read(challenge)
	block.Encrypt(want, challenge)
	response, err := ask(append(append(encode(0x80, plain), encode(0x81, challenge)...), encode(0x82)...), 0x82)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(response, want) != 1 {
		return errors.New("the card does not have the key itself")
	}
	return nil
}
