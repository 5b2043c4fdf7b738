package cardtest

import "errors"

// errTLV is the answer to data that is no BER-TLV (ISO/IEC 7816-4, section 5.2.2).
var errTLV = errors.New("not BER-TLV")

// tlv writes a tag of one to three bytes, the length and the value.
func tlv(tag uint32, value ...[]byte) []byte {
	var out []byte
	for shift := 16; shift >= 0; shift -= 8 {
		if b := byte(tag >> shift); b != 0 || len(out) > 0 {
			out = append(out, b)
		}
	}
	n := 0
	for _, v := range value {
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
	for _, v := range value {
		out = append(out, v...)
	}
	return out
}

// next reads one TLV, and gives what follows it.
func next(data []byte) (tag uint32, value, rest []byte, err error) {
	if len(data) == 0 {
		return 0, nil, nil, errTLV
	}
	tag, data = uint32(data[0]), data[1:]
	if tag&0x1f == 0x1f {
		for {
			if len(data) == 0 || tag > 0xffff {
				return 0, nil, nil, errTLV
			}
			b := data[0]
			tag, data = tag<<8|uint32(b), data[1:]
			if b&0x80 == 0 {
				break
			}
		}
	}
	if len(data) == 0 {
		return 0, nil, nil, errTLV
	}
	n := int(data[0])
	data = data[1:]
	if n > 0x80 {
		size := n - 0x80
		if size > 2 || len(data) < size {
			return 0, nil, nil, errTLV
		}
		n = 0
		for _, b := range data[:size] {
			n = n<<8 | int(b)
		}
		data = data[size:]
	}
	if n > len(data) {
		return 0, nil, nil, errTLV
	}
	return tag, data[:n], data[n:], nil
}

// fields reads the TLVs of data; a tag that appears twice is an error.
func fields(data []byte) (map[uint32][]byte, error) {
	out := map[uint32][]byte{}
	for len(data) > 0 {
		tag, value, rest, err := next(data)
		if _, twice := out[tag]; err != nil || twice {
			return nil, errTLV
		}
		out[tag], data = value, rest
	}
	return out, nil
}
