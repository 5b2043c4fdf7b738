package piv

import "errors"

var errTLV = errors.New("the card's answer is no BER-TLV")

// maxAnswer bounds what a card may answer to one command, in bytes.
const maxAnswer = 1 << 16

// maxParts bounds in how many parts it may come.
const maxParts = 512

// encode writes a tag of one to three bytes, the length and the values (ISO/IEC 7816-4, section 5.2.2).
func encode(tag uint32, values ...[]byte) []byte {
	var out []byte
	for shift := 16; shift >= 0; shift -= 8 {
		if b := byte(tag >> shift); b != 0 || len(out) > 0 {
			out = append(out, b)
		}
	}
	n := 0
	for _, v := range values {
		n += len(v)
	}
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	default:
		out = append(out, 0x82, byte(n>>8), byte(n))
	}
	for _, v := range values {
		out = append(out, v...)
	}
	return out
}

// decode reads one TLV; rest is what follows it. Lengths of up to two bytes are taken, for nothing longer fits into an answer.
func decode(data []byte) (tag uint32, value, rest []byte, err error) {
	if len(data) == 0 || data[0] == 0 {
		return 0, nil, nil, errTLV
	}
	tag, data = uint32(data[0]), data[1:]
	for more := tag&0x1f == 0x1f; more; {
		if len(data) == 0 || tag > 0xffff {
			return 0, nil, nil, errTLV
		}
		more = data[0]&0x80 != 0
		tag, data = tag<<8|uint32(data[0]), data[1:]
	}
	if len(data) == 0 {
		return 0, nil, nil, errTLV
	}
	n, bytes := int(data[0]), 0
	data = data[1:]
	if n >= 0x80 {
		bytes = n - 0x80
		if bytes < 1 || bytes > 2 || len(data) < bytes {
			return 0, nil, nil, errTLV
		}
		n = 0
		for _, b := range data[:bytes] {
			n = n<<8 | int(b)
		}
		data = data[bytes:]
	}
	if n > len(data) {
		return 0, nil, nil, errTLV
	}
	return tag, data[:n], data[n:], nil
}

// inside gives the value of the one TLV with this tag in data; a tag that appears twice is an error.
func inside(data []byte, want uint32) ([]byte, error) {
	var found []byte
	for len(data) > 0 {
		tag, value, rest, err := decode(data)
		if err != nil {
			return nil, err
		}
		if tag == want {
			if found != nil {
				return nil, errTLV
			}
			found = value
			if found == nil {
				found = []byte{}
			}
		}
		data = rest
	}
	if found == nil {
		return nil, errTLV
	}
	return found, nil
}
