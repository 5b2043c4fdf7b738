package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"

	"github.com/hanaper/hanaper/hsm"
)

// scheme is a kind of store.
type scheme struct {
	name string
	// form is how its URIs are written, for hints.
	form string
	// key is the attribute that names a key, where the others that say which store, and bare the one that a value without a
	// name at the beginning is of.
	key   string
	where []string
	bare  string
	// names are the names that keys have; namesWhy says why others are refused, after a colon.
	names    *regexp.Regexp
	namesWhy string
	check    func(*Address) error
	// parallel is how many calls it takes at once.
	parallel int
	// secret: it takes a PIN or a pass phrase; early: it must have it to be opened.
	secret, early bool
	// creates: keys can be made through it.
	creates bool
	// fragile: after any error the connection is made anew.
	fragile bool
	// reach is the hint where it is out of reach.
	reach string
	// cannot refuses what the store is known to sign wrongly; nil where nothing is known.
	cannot func(pub crypto.PublicKey, opts crypto.SignerOpts) error
	open   func(ctx context.Context, a *Address, info hsm.TokenInfo, pin hsm.PINSource) (manager, error)
}

func (s *scheme) example() string { return s.key + "=NAME to the URI: " + s.form }

// maxName bounds a key's name, in bytes; it is no part of the expressions, which a counted repetition makes large and slow to compile.
const maxName = 1000

var (
	simpleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	vaultName  = regexp.MustCompile(`^[A-Za-z0-9-]+$`)
	anyName    = regexp.MustCompile(`^.+$`)
)

// byName has the schemes of stores that work on this kind of machine.
func byName(all ...*scheme) map[string]*scheme {
	m := map[string]*scheme{}
	for _, s := range all {
		m[s.name] = s
	}
	return m
}

const noCloud = "check the network, the proxy and the account's credentials on this machine; the store's own tool shows which it uses"

var schemes = byName(
	&scheme{name: "awskms", form: "awskms:key-id=KEY;region=REGION (also profile=, credentials-file=)", key: "key-id",
		where: []string{"region", "profile", "credentials-file"},
		names: regexp.MustCompile(`^[a-z0-9][a-z0-9:/_-]*$`), namesWhy: ": a key id, an ARN or an alias, in lower case (the library turns all into it)",
		parallel: 16, creates: true, reach: noCloud, open: openAWS},
	&scheme{name: "azurekms", form: "azurekms:name=KEY;vault=VAULT (also version=, environment=, tenant-id=, hsm=true)", key: "name",
		where: []string{"vault", "version", "environment", "tenant-id", "hsm"}, check: checkAzure,
		names: vaultName, parallel: 16, creates: true, reach: noCloud, open: openAzure},
	&scheme{name: "cloudkms", form: "cloudkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1 (also ;credentials-file=)", key: "resource", bare: "resource",
		where: []string{"credentials-file"},
		names: regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+(/cryptoKeyVersions/[0-9]+)?$`), parallel: 16, creates: true, reach: noCloud, open: openGoogle},
	&scheme{name: "softkms", form: "softkms:/path/to/key.pem", key: "path", bare: "path",
		names: regexp.MustCompile(`^/.+$`), parallel: 2 * runtime.NumCPU(), secret: true, creates: true, open: openFiles},
	&scheme{name: "sshagentkms", form: "sshagentkms:COMMENT (also ;socket=/path)", key: "comment", bare: "comment", where: []string{"socket"},
		names: anyName, parallel: 1, fragile: true, reach: "start ssh-agent, or name its socket by socket= in the key URI", cannot: onlyEd25519, open: openAgent},
	&scheme{name: "tpmkms", form: "tpmkms:name=KEY;storage-directory=/path;device=/dev/tpmrm0", key: "name", where: []string{"storage-directory", "device"}, check: checkTPM,
		names: simpleName, parallel: 1, creates: true, reach: "check that the TPM is there and that this user may use it", open: openTPM},
	&scheme{name: "yubikey", form: "yubikey:slot-id=9c;serial=NUMBER?pin-source=/path (also management-key-source=)", key: "slot-id", where: []string{"serial", "management-key-source"},
		names: regexp.MustCompile(`^(9[acde]|8[2-9a-f]|9[0-5])$`), namesWhy: ": a slot: 9a, 9c, 9d, 9e, 82 to 95", parallel: 1, secret: true, early: true, creates: true, fragile: true,
		reach: "put the card in, and check that pcscd runs", open: openYubiKey},
)

// checkSign refuses at once what the store is known to do otherwise than crypto.Signer says.
func (s *scheme) checkSign(pub crypto.PublicKey, opts crypto.SignerOpts) error {
	if opts == nil {
		return errors.New("no scheme is named")
	}
	if s.cannot != nil {
		return s.cannot(pub, opts)
	}
	return nil
}

// onlyEd25519: an ssh-agent hashes what it is given itself, and so signs no digest (draft-miller-ssh-agent, section 3.6).
func onlyEd25519(pub crypto.PublicKey, _ crypto.SignerOpts) error {
	if _, ok := pub.(ed25519.PublicKey); ok {
		return nil
	}
	return fmt.Errorf("%w: an ssh-agent signs certificates with Ed25519 keys alone, and this one is %s", hsm.ErrUnsupported, kindOf(pub))
}

func kindOf(pub crypto.PublicKey) string {
	switch pub.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA"
	case *rsa.PublicKey:
		return "RSA"
	}
	return "of another type"
}

func checkAzure(a *Address) error {
	if a.values["vault"] == "" {
		return errors.New("vault= is missing")
	}
	if !vaultName.MatchString(a.values["vault"]) {
		return errors.New("vault is a name, without a domain")
	}
	if v := a.values["hsm"]; v != "" && v != "true" && v != "false" {
		return errors.New("hsm is true or false")
	}
	return nil
}

func checkTPM(a *Address) error {
	if a.values["storage-directory"] == "" {
		return errors.New("storage-directory= is missing: the keys' files lie there")
	}
	if strings.HasPrefix(a.values["device"], "/dev/tpm") && !strings.HasPrefix(a.values["device"], "/dev/tpmrm") {
		return errors.New("device= is the TPM itself: name its resource manager, /dev/tpmrm0, which other programs can use beside")
	}
	return nil
}
