package repo

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// file is one that Init writes.
type file struct {
	name string
	data []byte
}

// unpack checks what an archive holds for the local repository by its content, and returns what is to be written.
func (c *Credentials) unpack(kind uptane.Repository, auth Auth) (files []file, warnings []string, err error) {
	if len(c.ignored) > 0 {
		warnings = append(warnings, fmt.Sprintf("folders in the credentials are left out: %q", c.ignored))
	}
	packed, err := c.Bytes()
	if err != nil {
		return nil, nil, err
	}
	files = append(files, file{"credentials.zip", packed})
	certificates, err := c.certificates(auth)
	if err != nil {
		return nil, nil, err
	}
	files = append(files, certificates...)
	if kind == uptane.Image {
		root, warning := c.seed()
		if warning != "" {
			warnings = append(warnings, warning)
		} else {
			files = append(files, file{"roles/root.json", root.Bytes()}, file{versioned(root), root.Bytes()})
		}
	}
	keys, err := c.targetsKey()
	if err != nil {
		return nil, nil, err
	}
	if keys == nil {
		warnings = append(warnings, "no targets key in the credentials")
	}
	return append(files, keys...), warnings, nil
}

// seed is the root that the repository begins with. A root that does not parse or verify is no reason to stop, as with
// garage-sign: the first pull is then trusted as it comes, which the warning says.
func (c *Credentials) seed() (*uptane.Root, string) {
	const first = "so that the first pull is trusted as it comes: compare key ids with what you were told"
	if _, ok := c.entries[EntryRoot]; !ok {
		return nil, "no root in the credentials, " + first
	}
	root, err := c.Root()
	if err == nil {
		err = uptane.VerifyRoot(root)
	}
	if err != nil {
		return nil, fmt.Sprintf("the root in the credentials is not used (%v), %s", err, first)
	}
	return root, ""
}

func (c *Credentials) certificates(auth Auth) ([]file, error) {
	if auth.TLS == nil {
		return nil, nil
	}
	client := c.entries[EntryClientAuth]
	if _, _, err := ReadClientCertificate("credentials.zip: "+EntryClientAuth, client); err != nil {
		return nil, err
	}
	out := []file{{EntryClientAuth, client}}
	if auth.TLS.ServerCertPath != "" {
		server := c.entries[EntryServer]
		if _, err := ReadServerCertificates("credentials.zip: "+EntryServer, server); err != nil {
			return nil, err
		}
		out = append(out, file{EntryServer, server})
	}
	return out, nil
}

// targetsKey checks the targets key, whose halves must belong together. Of a key in a token only the names are kept: see
// PortableURI. There is nothing to write where a half is missing.
func (c *Credentials) targetsKey() ([]file, error) {
	pub, hasPub := c.entries[EntryTargetsPub]
	sec, hasSec := c.entries[EntryTargetsSec]
	if !hasPub || !hasSec {
		return nil, nil
	}
	fail := func(entry string, err error) ([]file, error) {
		return nil, advice.Wrap(advice.Usage, fmt.Errorf("credentials.zip: %s: %w", entry, err), "")
	}
	key, err := uptane.ParseKey(pub)
	if err != nil {
		return fail(EntryTargetsPub, err)
	}
	f, err := parseSecret(EntryTargetsSec, sec)
	if err != nil {
		return fail(EntryTargetsSec, err)
	}
	if f.KeyType = strings.ToUpper(f.KeyType); f.KeyType != string(key.Type()) {
		return fail(EntryTargetsSec, advice.New(advice.Unverified, "", "it is a key of type %q, the public half is of type %s", f.KeyType, key.Type()))
	}
	if f, err = f.portable(); err != nil {
		return fail(EntryTargetsSec, err)
	}
	if f.KeyVal.Private != "" {
		signer, err := parsePrivate(key.Type(), f.KeyVal.Private)
		if err == nil {
			err = sameKey(key, signer)
		}
		if err != nil {
			return fail(EntryTargetsSec, err)
		}
	}
	secret, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	public, err := pretty(key)
	if err != nil {
		return nil, err
	}
	return []file{{"keys/targets.sec", secret}, {"keys/targets.pub", public}}, nil
}
