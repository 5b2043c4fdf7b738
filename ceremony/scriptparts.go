package ceremony

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

func readBounded(folder fs.FS, name string) ([]byte, error) {
	return input.ReadFS(folder, name, maxInputSize)
}

func pinned(c FileConfig, place string, read func(place, file string) ([]byte, error)) ([]byte, error) {
	if c.File == "" {
		return nil, errors.New("file is missing")
	}
	want, err := ParseDigest(c.SHA256)
	if err != nil {
		return nil, err
	}
	data, err := read(place, c.File)
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(data); got != want {
		return nil, fmt.Errorf("%s is not the file that the script pins: its SHA-256 is %x", show.Text(c.File), got)
	}
	return data, nil
}

func checkToken(name string, c TokenConfig) (hsm.URI, error) {
	if !nameForm.MatchString(name) {
		return hsm.URI{}, fmt.Errorf("use 1 to 64 of a-z, 0-9, '.' and '-' for the name")
	}
	uri, err := hsm.ParseURI(c.URI)
	if err != nil {
		return uri, err
	}
	switch {
	case uri.Token == "":
		return uri, errors.New("the URI names no token label")
	case strings.TrimSpace(uri.Token) != uri.Token:
		return uri, fmt.Errorf("the token's label %q has a blank at its beginning or end", uri.Token)
	case uri.OnMachine(hsm.URI{}).String() != uri.String():
		return uri, errors.New("module-path, x-init-reserved, device, store and pin-source belong into the bindings, not into a script")
	case uri.Object != "" || len(uri.ID) > 0 || uri.Type != "":
		return uri, errors.New("the URI names an object, not a token")
	}
	for what, number := range map[string]string{"bag": c.Bag, "seal": c.Seal} {
		if number != "" && !labelForm.MatchString(number) {
			return uri, fmt.Errorf("the %s number %q: use 1 to 64 letters, digits, spaces inside and . _ : + -", show.Line(what), number)
		}
	}
	return uri, nil
}

// checkShares reads the share documents that tokens name.
func (s *Script) checkShares() error {
	for _, n := range sortedKeys(s.tokens) {
		for _, p := range []quorum.Purpose{quorum.PurposeUser, quorum.PurposeSO} {
			d, err := s.Shares(n, p)
			if err != nil {
				return fmt.Errorf("token %q: %w", n, err)
			}
			if d != nil && (d.Purpose() != p || d.TokenSerial() != s.tokens[n].Serial || d.Environment() != s.config.Environment) {
				return fmt.Errorf("token %q: the %s shares are for %s of the token with serial %s of environment %q", n, p, show.Text(d.Purpose()), show.Text(d.TokenSerial()), d.Environment())
			}
		}
	}
	return nil
}

// Shares gives the shares that hold a PIN of a token when the ceremony begins; nil where no quorum holds it.
func (s *Script) Shares(token string, p quorum.Purpose) (*quorum.Shares, error) {
	c := s.config.Tokens[token]
	name := c.UserShares
	if p == quorum.PurposeSO {
		name = c.SOShares
	}
	if name == "" {
		return nil, nil
	}
	data, ok := s.inputs[name]
	if !ok {
		return nil, fmt.Errorf("there is no input %q", name)
	}
	return quorum.ParseShares(data)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// scriptLines finds the line of a key such as "tokens.roots" or "steps.3".
type scriptLines map[string]int

func linesOf(raw []byte) scriptLines {
	lines := scriptLines{}
	var doc yaml.Node
	if yaml.Unmarshal(raw, &doc) != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return lines
	}
	top := doc.Content[0]
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		lines[key.Value] = key.Line
		switch value.Kind {
		case yaml.MappingNode:
			for j := 0; j+1 < len(value.Content); j += 2 {
				lines[key.Value+"."+value.Content[j].Value] = value.Content[j].Line
			}
		case yaml.SequenceNode:
			for j, n := range value.Content {
				lines[fmt.Sprintf("%s.%d", key.Value, j)] = n.Line
			}
		}
	}
	return lines
}

func (l scriptLines) of(key string) int {
	if n, ok := l[key]; ok {
		return n
	}
	if i := slices.Index([]byte(key), '.'); i >= 0 {
		return l.of(key[:i])
	}
	return 1
}
