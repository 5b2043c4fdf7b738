package csr

import (
	"bytes"
	"encoding/pem"
)

var (
	byteOrderMark = []byte("\ufeff")
	beginMark     = []byte("-----BEGIN ")
	endMark       = []byte("-----END ")
)

// decode bounds the size and takes off the PEM. The result shares no memory with data.
//
// Data without control characters is text: DER of a request always holds some. Text has one PEM block, with whatever words before it
// (`openssl req -text`, certtool and certutil write some, editors a byte order mark) and nothing but blanks after it: what stands before a
// block was never read by anybody, what follows might be a second request.
func decode(data []byte) ([]byte, error) {
	if len(data) > maxPEM {
		return nil, refuse(ErrTooLarge, "%d octets", len(data))
	}
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, refuseAnd("make the request first, and send the whole file", ErrMalformed, "it is empty")
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return nil, refuseAnd("save the file as plain text (ASCII or UTF-8): PowerShell's > writes UTF-16, its Set-Content -Encoding ascii does not", ErrMalformed, "it is text in UTF-16")
	}
	der := bytes.Clone(data)
	if isText(data) {
		var err error
		if der, err = unwrap(data); err != nil {
			return nil, err
		}
	}
	if len(der) > maxDER {
		return nil, refuse(ErrTooLarge, "%d octets", len(der))
	}
	return der, nil
}

func isText(data []byte) bool {
	for _, c := range data {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}

// unwrap finds the one PEM block of a text.
func unwrap(text []byte) ([]byte, error) {
	text = bytes.TrimPrefix(text, byteOrderMark)
	begin := bytes.Index(text, beginMark)
	if begin < 0 {
		return nil, refuseAnd("send it with its lines BEGIN CERTIFICATE REQUEST and END CERTIFICATE REQUEST, or as DER", ErrMalformed, "it is text without a PEM block")
	}
	if bytes.Count(text, beginMark) > 1 || bytes.Count(text, endMark) > 1 {
		return nil, refuseAnd("send each request in a file of its own", ErrTrailingData, "it holds more than one PEM block")
	}
	if line := text[bytes.LastIndexByte(text[:begin], '\n')+1 : begin]; len(bytes.Trim(line, " \t")) > 0 {
		return nil, refuseAnd("let the line BEGIN CERTIFICATE REQUEST stand at the left edge, with nothing before it on its line", ErrMalformed, "its PEM does not begin on a line of its own")
	}
	block, rest := pem.Decode(text[begin:])
	switch {
	case block == nil:
		return nil, refuseAnd("send the file unchanged, from the line BEGIN to the line END; a line was lost or changed on the way", ErrMalformed, "its PEM cannot be read")
	case bytes.Contains([]byte(block.Type), []byte("PRIVATE KEY")):
		return nil, refuseAnd("a private key never leaves its device: make a new key there, and send the request that it signs", ErrMalformed, "it is a private key")
	case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		return nil, refuseAnd("send the certification request, whose first line is BEGIN CERTIFICATE REQUEST", ErrMalformed, "its PEM holds a %q", clip([]byte(block.Type)))
	case len(block.Headers) > 0:
		return nil, refuseAnd("leave out the lines with a colon between BEGIN and the base64", ErrMalformed, "its PEM has headers")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, refuseAnd("end the file behind the line END CERTIFICATE REQUEST", ErrTrailingData, "%d octets after the PEM", len(rest))
	}
	return block.Bytes, nil
}
