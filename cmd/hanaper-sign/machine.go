package main

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// machineTokens is where a machine says how its tokens are reached: one pkcs11: URI a line, with token, module-path and,
// where nobody is there to type it, pin-source. Whoever can write it chooses code that this program runs. An archive of
// credentials names only a token and a key in it, and cannot name this file.
const machineTokens = "/etc/hanaper/tokens"

const tokensHint = "say how this machine reaches it, in " + machineTokens + ", $HANAPER_TOKENS or $HANAPER_SIGN_TOKEN: pkcs11:token=LABEL?module-path=/path/to/library.so&pin-source=/path/to/pin"

// onThisMachine adds the library or the store, and the source of the PIN, to a URI that names none.
func onThisMachine(u hsm.URI) (hsm.URI, error) {
	if u.ModulePath != "" || u.Store != "" {
		return u, nil
	}
	known, err := tokensOfMachine()
	if err != nil {
		return u, err
	}
	for _, k := range known {
		if k.Scheme == u.Scheme && k.Token == u.Token && (k.Serial == "" || u.Serial == "" || k.Serial == u.Serial) {
			u = u.OnMachine(k)
			if k.Serial != "" {
				u.Serial = k.Serial
			}
			return u, nil
		}
	}
	return u, advice.New(advice.Usage, tokensHint, "nothing on this machine says how token %q is reached", u.Token)
}

// tokensOfMachine are the tokens of $HANAPER_SIGN_TOKEN, and of the file.
func tokensOfMachine() ([]hsm.URI, error) {
	var out []hsm.URI
	if text := os.Getenv("HANAPER_SIGN_TOKEN"); text != "" {
		u, err := hsm.ParseURI(text)
		if err != nil {
			return nil, err
		}
		if u.ModulePath != "" || u.Store != "" {
			out = append(out, u)
		}
	}
	path, chosen := os.LookupEnv("HANAPER_TOKENS")
	if !chosen || path == "" {
		path, chosen = machineTokens, false
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !chosen {
		return out, nil
	}
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a file that exists and that you may read")
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return nil, advice.New(advice.Refused, "chmod go-w it, and look whether it is as you left it", "%s can be changed by others, and says which code is run", path)
	}
	b, err := readInput(path)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		u, err := hsm.ParseURI(line)
		if err != nil {
			return nil, advice.New(advice.Usage, advice.Hint(err), "%s, line %d: %w", path, n, err)
		}
		if u.Token == "" || u.ModulePath == "" && u.Store == "" || u.Object != "" || u.ID != nil {
			return nil, advice.New(advice.Usage, tokensHint, "%s, line %d: it must name a token and its library or store, and no key", path, n)
		}
		out = append(out, u)
	}
	return out, lines.Err()
}
