package hsm

import (
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// ParseLibrary reads how a flag or a configuration names a PKCS#11 library: by its path, or, where the library wants a
// string at its start, by a pkcs11: URI that holds module-path and x-init-reserved and nothing else. The path is not looked at.
func ParseLibrary(s string) (path, reserved string, err error) {
	if !strings.HasPrefix(s, SchemePKCS11+":") {
		return s, "", nil
	}
	const hint = "write the library's path, or pkcs11:?module-path=/path/to/lib.so&x-init-reserved=STRING"
	u, err := ParseURI(s)
	if err != nil {
		return "", "", advice.New(advice.Usage, hint, "PKCS#11 library: %w", err)
	}
	rest := u
	rest.ModulePath, rest.InitReserved = "", ""
	if u.ModulePath == "" || rest.String() != SchemePKCS11+":" {
		return "", "", advice.New(advice.Usage, hint, "PKCS#11 library: the URI %s is not that of a library alone", show.Text(s))
	}
	return u.ModulePath, u.InitReserved, nil
}

// Library names the PKCS#11 library of u as ParseLibrary reads it; empty where u names none.
func (u URI) Library() string {
	if u.ModulePath == "" || u.InitReserved == "" {
		return u.ModulePath
	}
	return URI{ModulePath: u.ModulePath, InitReserved: u.InitReserved}.String()
}

// InLibrary is u with the library that s names, as ParseLibrary reads it. What cannot be read is left out.
func (u URI) InLibrary(s string) URI {
	u.ModulePath, u.InitReserved, _ = ParseLibrary(s)
	return u
}

// OnMachine is u with all that says where things are on one machine taken from at, and nothing of that of its own.
func (u URI) OnMachine(at URI) URI {
	u.ModulePath, u.InitReserved, u.PINSource, u.PINPolicy = at.ModulePath, at.InitReserved, at.PINSource, at.PINPolicy
	u.Device, u.Store = at.Device, at.Store
	return u
}
