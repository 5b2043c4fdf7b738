package uptane

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// Requests go to officers on other machines and responses come back. Both are one line of canonical JSON and one with
// its digest.
const (
	requestFormat  = "hanaper-uptane-request-v1"
	responseFormat = "hanaper-uptane-response-v1"
)

// seal appends a line with the digest of the line before it: bundles travel on media that flip bits, and a changed
// byte anywhere must not go unnoticed. It proves no origin.
func seal(line []byte) []byte {
	sum := sha256.Sum256(line)
	return append(append(line, '\n'), base64.StdEncoding.EncodeToString(sum[:])+"\n"...)
}

func unseal(what string, data []byte) (value, error) {
	if len(data) > maxBundle {
		return value{}, because(ErrTooLarge, "%s of %d bytes is larger than %d", what, len(data), maxBundle)
	}
	body, sum, found := strings.Cut(string(data), "\n")
	want := sha256.Sum256([]byte(body))
	if !found || sum != base64.StdEncoding.EncodeToString(want[:])+"\n" {
		return value{}, hinted(ErrHash, "carry it over again", "%s: its checksum does not match, so it was changed or cut on the way", what)
	}
	v, err := parseJSON([]byte(body))
	if err != nil {
		return value{}, inside(what, err)
	}
	return v, nil
}
