package weakkey

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" // the lists' own digest, of which they keep the last 80 bits
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// published.txt lists keys whose private halves stand in public: the first 16 octets of the SHA-256 of the SubjectPublicKeyInfo in hex, and where.
//
//go:embed published.txt
var publishedText string

type publishedKey struct {
	digest [16]byte
	where  string
}

// published are the keys of published.txt, in the order of their digests.
var published = sync.OnceValue(func() (keys []publishedKey) {
	for line := range strings.Lines(publishedText) {
		digest, where, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		k := publishedKey{where: where}
		copy(k.digest[:], unhex(digest))
		keys = append(keys, k)
	}
	return keys
})

// Published says where the private half of pub was published, "" where that is not known: in the source of libraries, in RFCs, or because it is
// a number that everybody tries.
func Published(pub crypto.PublicKey) string {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(spki)
	i, found := slices.BinarySearchFunc(published(), sum[:16], func(k publishedKey, d []byte) int { return bytes.Compare(k.digest[:], d) })
	if !found {
		return ""
	}
	return published()[i].where
}

// maxBlacklist bounds a list: those of Debian have up to 590,000 lines of 21 octets.
const maxBlacklist = 64 << 20

// Blacklist is what files of RSA keys that are known to be weak say, by the size of the keys in bits.
type Blacklist map[int]map[[10]byte]bool

// LoadBlacklists reads files of Debian's package openssl-blacklist, or of the same form: named blacklist.RSA-BITS, each line the last 20 hex digits of
// the SHA-1 of "Modulus=", the modulus in capital hex digits, and a line end; lines that begin with # are comments. A line of any other form is
// refused.
func LoadBlacklists(paths []string) (Blacklist, error) {
	list := Blacklist{}
	for _, path := range paths {
		bad := func(format string, args ...any) error {
			return advice.New(advice.Usage, "name files of openssl-blacklist, whose names end in the size of the keys, as blacklist.RSA-2048", show.Text(path)+": "+format, args...)
		}
		_, size, _ := strings.Cut(filepath.Base(path), ".RSA-")
		bits, err := strconv.ParseUint(size, 10, 16)
		if err != nil {
			return nil, bad("its name does not say the size of the keys")
		}
		data, err := input.Read(path, maxBlacklist)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, err, "name a file that exists and that you may read")
		}
		if err := list.add(int(bits), data); err != nil {
			return nil, bad("%w", err)
		}
	}
	return list, nil
}

// add reads the lines of one file.
func (l Blacklist) add(bits int, data []byte) error {
	if l[bits] == nil {
		l[bits] = map[[10]byte]bool{}
	}
	keys, lines := 0, bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var digest [10]byte
		if got, err := hex.Decode(digest[:], line[:min(len(line), 20)]); err != nil || len(line) != 20 || got != 10 {
			return fmt.Errorf("line %d is not 20 hex digits", n)
		}
		l[bits][digest] = true
		keys++
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if keys == 0 {
		return fmt.Errorf("it holds no key")
	}
	return nil
}

// Has says whether a list has the key.
func (l Blacklist) Has(pub crypto.PublicKey) bool {
	k, ok := pub.(*rsa.PublicKey)
	if !ok || len(l[k.N.BitLen()]) == 0 {
		return false
	}
	sum := sha1.Sum(fmt.Appendf(nil, "Modulus=%X\n", k.N))
	return l[k.N.BitLen()][[10]byte(sum[10:])]
}
