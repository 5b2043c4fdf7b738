package hsm

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// CheckFresh compares the attributes that a token read back of a key just generated or unwrapped with those that its
// class demands. The error wraps ErrAttributes and names every attribute that differs.
//
//   - Sealed: sensitive and unextractable from birth (ALWAYS_SENSITIVE, NEVER_EXTRACTABLE, LOCAL).
//   - Backup: born in the token, sensitive from birth, extractable, but only under a trusted wrapping key.
//   - Restored: sensitive and unextractable; not born here, and not claiming to be.
//   - RestoredBackup: the same, but extractable under a trusted wrapping key.
//   - Unread: nobody could read them.
//
// Every class but Unread is a token object, private, and of one use only: signing, or (where Derive or Decrypt is set and Sign is
// not) an officer's key agreement or decryption. None may unwrap.
func (a Attributes) CheckFresh(c Class) error {
	if a.Unread != (c == Unread) {
		if a.Unread {
			return fmt.Errorf("%w %s: the store tells no attributes", ErrAttributes, show.Text(cmp.Or(c, Sealed)))
		}
		return fmt.Errorf("%w %s: the token tells its attributes", ErrAttributes, show.Text(c))
	}
	if c == Unread {
		return nil
	}
	type want struct {
		name  string
		have  bool
		value bool
	}
	wants := []want{
		{"CKA_TOKEN", a.Token, true},
		{"CKA_PRIVATE", a.Private, true},
		{"CKA_SENSITIVE", a.Sensitive, true},
		{"CKA_UNWRAP", a.Unwrap, false},
	}
	if a.Sign || !(a.Derive || a.Decrypt) {
		wants = append(wants, want{"CKA_SIGN", a.Sign, true}, want{"CKA_DECRYPT", a.Decrypt, false}, want{"CKA_DERIVE", a.Derive, false})
	}
	switch c {
	case Sealed, "":
		wants = append(wants, want{"CKA_ALWAYS_SENSITIVE", a.AlwaysSensitive, true}, want{"CKA_EXTRACTABLE", a.Extractable, false},
			want{"CKA_NEVER_EXTRACTABLE", a.NeverExtractable, true}, want{"CKA_LOCAL", a.Local, true})
	case Backup:
		wants = append(wants, want{"CKA_ALWAYS_SENSITIVE", a.AlwaysSensitive, true}, want{"CKA_EXTRACTABLE", a.Extractable, true},
			want{"CKA_NEVER_EXTRACTABLE", a.NeverExtractable, false}, want{"CKA_LOCAL", a.Local, true},
			want{"CKA_WRAP_WITH_TRUSTED", a.WrapWithTrusted, true})
	case Restored:
		wants = append(wants, want{"CKA_EXTRACTABLE", a.Extractable, false}, want{"CKA_NEVER_EXTRACTABLE", a.NeverExtractable, false},
			want{"CKA_LOCAL", a.Local, false})
	case RestoredBackup:
		wants = append(wants, want{"CKA_EXTRACTABLE", a.Extractable, true}, want{"CKA_NEVER_EXTRACTABLE", a.NeverExtractable, false},
			want{"CKA_LOCAL", a.Local, false}, want{"CKA_WRAP_WITH_TRUSTED", a.WrapWithTrusted, true})
	default:
		return fmt.Errorf("key class %q is none of sealed, backup, restored, restored-backup", string(c))
	}
	var wrong []string
	for _, w := range wants {
		if w.have != w.value {
			wrong = append(wrong, fmt.Sprintf("%s is %t", w.name, w.have))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w %s: %s", ErrAttributes, show.Text(c), strings.Join(wrong, ", "))
	}
	return nil
}
