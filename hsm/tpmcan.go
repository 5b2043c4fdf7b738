package hsm

import (
	"slices"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// TPMCan says whether a TPM 2.0 makes keys of an algorithm and class, before any is asked: one that makes RSA-4096 is rare, none makes
// Ed25519, and a key that is born in a TPM never leaves it.
func TPMCan(a Algorithm, c Class) error {
	switch {
	case a == RSA4096 || a == Ed25519:
		return advice.New(advice.Usage, "use P-256, P-384, RSA-2048 or RSA-3072, or another kind of token", "%w: a TPM makes no keys of algorithm %s", ErrUnsupported, show.Text(a))
	case !slices.Contains(Algorithms(), a):
		return advice.New(advice.Usage, "", "%w: algorithm %q is unknown", ErrUnsupported, string(a))
	case c == Sealed || c == "":
		return nil
	case c == Backup:
		return advice.New(advice.Usage, "generate it as sealed, and prepare for its loss: a second root in a TPM of its own, vouched for by the same ceremony, or a token whose vendor copies keys (`manual-clone`); who loses an officer's key gets a new share", "%w: a key in a TPM never leaves it, so it cannot be of class backup", ErrUnsupported)
	}
	return advice.New(advice.Usage, "restore it into a token that unwraps keys", "%w: a TPM takes in no key that was born elsewhere, so none is of class %s", ErrUnsupported, show.Text(c))
}
