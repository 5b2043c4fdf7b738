package pkcs11

import (
	"path/filepath"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// What people must look at when a library does not start, or shows none of their tokens, differs from one to the next and stands in no
// answer of theirs. These are the ones that Hanaper's tests run with, by a part of the file's name.
var libraries = []struct{ name, hint string }{
	{"softhsm", "check SOFTHSM2_CONF, and that this user may read and write the folder that it names"},
	{"softokn", "check configdir in x-init-reserved: the folder of the database, and that this user may read it"},
	{"opencryptoki", "check that its daemon pkcsslotd runs, and that this user is in the group pkcs11"},
	{"tpm2_pkcs11", "check TPM2_PKCS11_TCTI, which says where the TPM is, and TPM2_PKCS11_STORE, the folder of its tokens, which must exist"},
	{"p11-kit-client", "check P11_KIT_SERVER_ADDRESS, and that p11-kit server runs there"},
	{"p11-kit-proxy", "see what `p11-kit list-modules` shows: the proxy shows the tokens of those libraries"},
	{"opensc", "check that pcscd runs, that the reader is connected and the card in it: `opensc-tool --list-readers`"},
}

// Advice says what to look at where a library, named as hsm.ParseLibrary has it, does not show the token that is wanted.
func Advice(library string) string {
	path, _, _ := hsm.ParseLibrary(library)
	for _, l := range libraries {
		if strings.Contains(filepath.Base(path), l.name) {
			return l.hint
		}
	}
	return "check that the token is connected, and the library's own configuration"
}

// startHint says what to do about a library that does not start.
func startHint(path, reserved string, err error) string {
	uri := hsm.URI{ModulePath: path}
	switch {
	case reserved == "" && strings.Contains(filepath.Base(path), "softokn"):
		uri.InitReserved = "configdir='sql:/path/of/the/database'"
		return "NSS wants its folder: name the library as " + uri.String()
	case reserved == "" && code(err) == p11.CKR_ARGUMENTS_BAD:
		uri.InitReserved = "STRING"
		return "the library may want a string at its start: name it as " + uri.String()
	}
	return Advice(path)
}
