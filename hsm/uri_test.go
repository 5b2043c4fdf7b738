package hsm_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

func TestParseURI(t *testing.T) {
	for in, want := range map[string]hsm.URI{
		"pkcs11:": {},
		"pkcs11:token=Fleet%20Root;serial=00a1b2": {Token: "Fleet Root", Serial: "00a1b2"},
		"pkcs11:serial=1;token=a;object=root-2026;type=private?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/pin": {
			Token: "a", Serial: "1", Object: "root-2026", Type: "private", ModulePath: "/usr/lib/softhsm/libsofthsm2.so", PINSource: "/run/pin"},
		"pkcs11:token=a;id=%02%ff%00?pin-source=file:/run/pin": {Token: "a", ID: []byte{2, 255, 0}, PINSource: "file:/run/pin"},
		"pkcs11:id=AB": {ID: []byte("AB")}, // unescaped bytes stand for themselves (RFC 7512, section 2.3)
		// p11tool --list-tokens
		"pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=2f6ee0c0a0d0e6f1;token=t": {
			Model: "SoftHSM v2", Manufacturer: "SoftHSM project", Serial: "2f6ee0c0a0d0e6f1", Token: "t"},
		"pkcs11:token=%25%3b%26%3f=": {Token: "%;&?="},
		"pkcs11:token=NSS%20Certificate%20DB?module-path=/usr/lib/libsoftokn3.so&x-init-reserved=configdir='sql:/etc/pki/nssdb'%20flags=readOnly": {
			Token: "NSS Certificate DB", ModulePath: "/usr/lib/libsoftokn3.so", InitReserved: "configdir='sql:/etc/pki/nssdb' flags=readOnly"},
		"pkcs11:token=ada?x-pin-policy=ask-each": {Token: "ada", PINPolicy: hsm.AskEach},
		"tpm:serial=00ff;object=fleet-root?device=/dev/tpmrm0&store=/var/lib/hanaper/tpm&pin-source=/run/pin": {
			Scheme: "tpm", Serial: "00ff", Object: "fleet-root", Device: "/dev/tpmrm0", Store: "/var/lib/hanaper/tpm", PINSource: "/run/pin"},
		"yubikey:slot-id=9c?pin-source=/run/pin": {Scheme: "yubikey", Opaque: "slot-id=9c", PINSource: "/run/pin"},
		"awskms:key-id=abc;region=eu-1":          {Scheme: "awskms", Opaque: "key-id=abc;region=eu-1"},
	} {
		got, err := hsm.ParseURI(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", in, got, want)
		}
		if again, err := hsm.ParseURI(got.String()); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%s -> %s: %+v, %v", in, got, again, err)
		}
	}
}

func TestParseURIRefusals(t *testing.T) {
	for in, says := range map[string]string{
		"":                                            "pkcs11:",
		"PKCS11:token=a":                              "pkcs11:",
		"pkcs11:token=a?x-pin-policy=keep":            "not ask-each",
		"pkcs11:x-pin-policy=ask-each":                "unknown",
		"tpm:object=a?x-pin-policy=ask-each":          "unknown",
		"tpm:handle=1":                                "unknown",
		"tpm:object=a?module-path=/lib.so":            "unknown",
		"tpm:object=a?store=here":                     "absolute",
		"pkcs11:object=a?device=/dev/tpmrm0":          "unknown",
		"tpm:object=a?x-init-reserved=a":              "unknown",
		"pkcs11:x-init-reserved=a":                    "unknown", // it belongs to the library, not to the object
		"pkcs11:?x-init-reserved=":                    "empty",
		"pkcs11:?x-init-reserved=a&x-init-reserved=a": "twice",
		"vault:key":                                   "pkcs11:",
		"yubikey:":                                    "nothing follows",
		"yubikey:slot-id=9c?pin-value=sesame":         "pin-value",
		"yubikey:slot-id=9c;management-key=sesame":    "management-key",
		"yubikey:slot-id=9c?pin-source=pin":           "absolute",
		"yubikey:slot-id=9c?a=b&pin-source=/p":        "at the end",
		"softkms:a b":                                 "%20",
		"pkcs11:token=a;slot-id=0":                    "slot-id",
		"pkcs11:token=a?pin-value=sesame":             "pin-value",
		"pkcs11:pin-value=sesame":                     "pin-value",
		"pkcs11:token=a?module-name=softhsm2":         "module-name",
		"pkcs11:token=a;token=b":                      "twice",
		"pkcs11:token=a;colour=red":                   "unknown",
		"pkcs11:module-path=/lib.so":                  "unknown", // belongs in the query
		"pkcs11:token=a?token=b":                      "unknown",
		"pkcs11:token=a?id=%01":                       "unknown",
		"pkcs11:token=a;":                             "without a value",
		"pkcs11:token":                                "without a value",
		"pkcs11:token=":                               "empty",
		"pkcs11:token=a;id=":                          "empty",
		"pkcs11:token=a b":                            "%20",
		"pkcs11:token=a%2":                            "cut short",
		"pkcs11:token=a%zz":                           "hex",
		"pkcs11:token=a%00b":                          "NUL",
		"pkcs11:token=a;type=banana":                  "type",
		"pkcs11:token=a?module-path=lib.so":           "absolute",
		"pkcs11:token=a?pin-source=pin":               "absolute",
		"pkcs11:token=a?pin-source=|cat%20p":          "absolute",
		"pkcs11:token=" + strings.Repeat("a", 9000):   "longer",
	} {
		u, err := hsm.ParseURI(in)
		switch {
		case err == nil:
			t.Errorf("%.80s: accepted as %+v", in, u)
		case !strings.Contains(err.Error(), says), strings.Contains(err.Error(), "sesame"):
			t.Errorf("%.80s: %v", in, err)
		case advice.KindOf(err) != advice.Usage || advice.Hint(err) == "":
			t.Errorf("%.80s: kind %d, hint %q", in, advice.KindOf(err), advice.Hint(err))
		case !reflect.DeepEqual(u, hsm.URI{}):
			t.Errorf("%.80s: an error and %+v", in, u)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"pkcs11:", "pkcs11:token=a;serial=1;object=%20;id=%00%01;type=private?module-path=/l.so&pin-source=file:/p",
		"pkcs11:token=%C3%A9;id=AB", "pkcs11:a=b?c=d", "tpm:object=a?store=/s&device=/d", "softkms:/key.pem?pin-source=/p", "pkcs11:token=a?pin-value=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := hsm.ParseURI(s)
		if err != nil {
			return
		}
		again, err := hsm.ParseURI(u.String())
		if err != nil || !reflect.DeepEqual(u, again) {
			t.Fatalf("%q -> %q: %+v, %v", s, u, again, err)
		}
		if again.String() != u.String() {
			t.Fatalf("%q is not canonical", u)
		}
	})
}

func TestMatchesToken(t *testing.T) {
	token := hsm.TokenInfo{Label: "a", Serial: "1", Model: "m", Manufacturer: "f"}
	for u, want := range map[string]bool{
		"pkcs11:": true, "pkcs11:token=a": true, "pkcs11:serial=1": true, "pkcs11:token=a;serial=1;model=m;manufacturer=f": true,
		"pkcs11:token=b": false, "pkcs11:token=a;serial=2": false, "pkcs11:token=a;model=x": false, "pkcs11:token=A": false,
	} {
		parsed, err := hsm.ParseURI(u)
		if err != nil || parsed.MatchesToken(token) != want {
			t.Errorf("%s: %t, %v", u, !want, err)
		}
	}
}

// A label that a shell would run between quotation marks does no such thing in a URI that is copied from the screen.
func TestURIInAShell(t *testing.T) {
	for _, label := range []string{"$(rm$IFS-rf$IFS*)", "`reboot`", "!!", "a'$(id)'b", `a"$(id)"b`, `a\`} {
		u := hsm.URI{Token: label, Serial: "$1", Object: label, ID: []byte{1}}
		text := u.String()
		if strings.ContainsAny(text, "$`!'\"\\") {
			t.Errorf("%q is written %s", label, text)
		}
		if again, err := hsm.ParseURI(text); err != nil || again.Token != label || again.Object != label {
			t.Errorf("%q is read as %+v, %v", label, again, err)
		}
	}
}
