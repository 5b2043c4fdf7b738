package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"encoding/binary"

	"github.com/hanaper/hanaper/internal/advice"
)

// unpadOAEP is the second half of RSAES-OAEP-DECRYPT (RFC 8017, section 7.1.2, steps 3 and 4), for cards that do the bare RSA operation only.
// size is the modulus's in bytes; the hash is that of the label and of the mask. Up to the one answer at the end, what is done depends on the
// lengths alone: all that can be wrong is gathered before it is told, and it is told as one thing (section 7.1.2, note; Manger 2001).
func unpadOAEP(block []byte, size int, h crypto.Hash, label []byte) ([]byte, error) {
	n := h.Size()
	if len(block) > size || size < 2*n+2 {
		return nil, errPadding()
	}
	em := make([]byte, size) // a library may cut leading zeros off
	defer clear(em)
	copy(em[size-len(block):], block)
	seed, db := em[1:1+n], em[1+n:]
	mask(seed, db, h)
	mask(db, seed, h)
	hash := h.New()
	hash.Write(label)
	bad := subtle.ConstantTimeByteEq(em[0], 0) ^ 1
	bad |= subtle.ConstantTimeCompare(db[:n], hash.Sum(nil)) ^ 1
	rest := db[n:]
	looking, start := 1, 0 // start is where the message begins: after the first byte that is not 0, which must be 1
	for i, b := range rest {
		zero, one := subtle.ConstantTimeByteEq(b, 0), subtle.ConstantTimeByteEq(b, 1)
		start = subtle.ConstantTimeSelect(looking&one, i+1, start)
		bad |= looking & (zero ^ 1) & (one ^ 1)
		looking &= zero
	}
	if bad|looking != 0 {
		return nil, errPadding()
	}
	return bytes.Clone(rest[start:]), nil
}

// mask is an exclusive or with MGF1 of the seed (RFC 8017, section B.2.1).
func mask(out, seed []byte, h crypto.Hash) {
	hash := h.New()
	for counter, done := uint32(0), 0; done < len(out); counter++ {
		hash.Reset()
		hash.Write(seed)
		hash.Write(binary.BigEndian.AppendUint32(nil, counter))
		block := hash.Sum(nil)
		done += subtle.XORBytes(out[done:], out[done:], block)
	}
}

func errPadding() error {
	return advice.New(advice.Failed, "is it encrypted to this key, and unchanged?", "the ciphertext is not valid")
}
