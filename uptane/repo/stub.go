package repo

import (
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// PortableURI is what may travel in an archive of a key's URI: the token's label and the key's label and id. The path of a
// library would be code that the archive chooses, and the source of a PIN a file that it chooses: both are dropped, as is
// everything else. Whoever opens the key adds them from what the machine itself says of the token.
func PortableURI(uri string) (string, error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	if scheme != "pkcs11" && scheme != "tpm" {
		return "", advice.New(advice.Usage, "name it as pkcs11:token=...;object=...", "a key outside of the archive must be a key in a token")
	}
	path, _, _ := strings.Cut(rest, "?")
	var keep, seen []string
	for part := range strings.SplitSeq(path, ";") {
		name, value, _ := strings.Cut(part, "=")
		if name != "token" && name != "object" && name != "id" {
			continue
		}
		if value == "" || slices.Contains(seen, name) || strings.ContainsFunc(value, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
			return "", advice.New(advice.Usage, "name it as pkcs11:token=...;object=...", "the URI of a key names its %s twice, or not at all", show.Text(name))
		}
		seen, keep = append(seen, name), append(keep, part)
	}
	if !slices.Contains(seen, "token") || len(seen) < 2 {
		return "", advice.New(advice.Usage, "name it as pkcs11:token=...;object=...", "the URI of a key names no token, or no key in it")
	}
	return scheme + ":" + strings.Join(keep, ";"), nil
}

// portable is a .sec file as it may travel, and as one that has travelled is kept.
func (f keyFile) portable() (keyFile, error) {
	if f.KeyVal.URI == "" {
		return f, nil
	}
	var err error
	f.KeyVal.URI, err = PortableURI(f.KeyVal.URI)
	return f, err
}
