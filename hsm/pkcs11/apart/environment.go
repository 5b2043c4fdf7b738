package apart

import (
	"os"
	"slices"
	"strings"
)

// variables are those of the parent's environment that the child keeps. Everything else stays away: environments hold
// passwords of other things.
var variables = []string{
	// The system's: where files are, in which language errors are told.
	"HOME", "PATH", "TMPDIR", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
	"OPENSSL_CONF", "OPENSSL_MODULES", "GOMAXPROCS",
	// SoftHSM, OpenSC with pcsc-lite, openCryptoki.
	"SOFTHSM2_CONF", "OPENSC_CONF", "OPENSC_DEBUG", "OPENSC_DRIVER", "PCSCLITE_CSOCK_NAME", "OPENCRYPTOKI_TRACE_LEVEL",
	// Vendors, by the names in their manuals.
	"ChrystokiConfigurationPath", "CS_PKCS11_R2_CFG", "CS_PKCS11_R3_CFG", "YUBIHSM_PKCS11_CONF", "YUBIHSM_PKCS11_DBG",
}

// families are beginnings of names that the child keeps.
var families = []string{"TPM2_PKCS11_", "TPM2TOOLS_TCTI", "TSS2_", "P11_KIT_", "PKCS11SPY", "NSS_", "CKNFAST_", "NFAST_", "CLOUDHSM_"}

// stores are beginnings of what the key stores' libraries read (hsm/kms), for another program that serves a token: credentials of
// clouds are among it, which the program needs.
var stores = []string{"AWS_", "AZURE_", "IDENTITY_", "MSI_", "GOOGLE_", "GCE_METADATA_", "CLOUDSDK_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
	"http_proxy", "https_proxy", "no_proxy", "SSL_CERT_", "SSH_AUTH_SOCK"}

// environment is what the child gets, with the variables that the user named besides.
func environment(more []string, store bool) []string {
	// A crash tells its reason in a line or two, without what is on the stacks.
	env := []string{"GOTRACEBACK=none"}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if slices.Contains(variables, name) || slices.Contains(more, name) ||
			slices.ContainsFunc(families, func(f string) bool { return strings.HasPrefix(name, f) }) ||
			store && slices.ContainsFunc(stores, func(f string) bool { return strings.HasPrefix(name, f) }) {
			env = append(env, entry)
		}
	}
	return env
}
