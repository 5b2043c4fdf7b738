package hsm_test

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// TestParseLibrary: a library is named by a path, or by a URI that names it alone; both come back from URI.Library.
func TestParseLibrary(t *testing.T) {
	for in, want := range map[string][2]string{
		"/usr/lib/p11.so":                     {"/usr/lib/p11.so", ""},
		"p11.so":                              {"p11.so", ""}, // refused when it is loaded
		"":                                    {"", ""},
		"pkcs11:?module-path=/usr/lib/p11.so": {"/usr/lib/p11.so", ""},
		"pkcs11:?module-path=/usr/lib/p11.so&x-init-reserved=configdir='sql:/a%20b'%20c=%26": {"/usr/lib/p11.so", "configdir='sql:/a b' c=&"},
	} {
		path, reserved, err := hsm.ParseLibrary(in)
		if err != nil || path != want[0] || reserved != want[1] {
			t.Errorf("%s: %q, %q, %v", in, path, reserved, err)
		}
		u := hsm.URI{Token: "t"}.InLibrary(in)
		if u.ModulePath != want[0] || u.InitReserved != want[1] || u.Token != "t" {
			t.Errorf("%s: %+v", in, u)
		}
		if path, reserved, err := hsm.ParseLibrary(u.Library()); err != nil || path != want[0] || reserved != want[1] {
			t.Errorf("%s -> %s", in, u.Library())
		}
	}
	for _, in := range []string{"pkcs11:", "pkcs11:?x-init-reserved=a", "pkcs11:token=a?module-path=/lib.so", "pkcs11:?module-path=/lib.so&pin-source=/pin",
		"pkcs11:?module-path=lib.so", "pkcs11:?module-path=/lib.so&pin-value=sesame"} {
		if _, _, err := hsm.ParseLibrary(in); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", in, err)
		}
	}
}
