package hsm_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// TestCheckFresh turns each attribute that matters round, one at a time.
func TestCheckFresh(t *testing.T) {
	sealed := hsm.Attributes{Token: true, Private: true, Sensitive: true, AlwaysSensitive: true, NeverExtractable: true, Local: true, Sign: true}
	backup := sealed
	backup.Extractable, backup.NeverExtractable, backup.WrapWithTrusted = true, false, true
	restored := hsm.Attributes{Token: true, Private: true, Sensitive: true, Sign: true}
	again := restored
	again.Extractable, again.WrapWithTrusted = true, true
	matter := map[hsm.Class][]string{
		hsm.Sealed:         {"Token", "Private", "Sensitive", "AlwaysSensitive", "Extractable", "NeverExtractable", "Local", "Sign", "Decrypt", "Derive", "Unwrap"},
		hsm.Backup:         {"Token", "Private", "Sensitive", "AlwaysSensitive", "Extractable", "NeverExtractable", "Local", "Sign", "Decrypt", "Derive", "Unwrap", "WrapWithTrusted"},
		hsm.Restored:       {"Token", "Private", "Sensitive", "Extractable", "NeverExtractable", "Local", "Sign", "Decrypt", "Derive", "Unwrap"},
		hsm.RestoredBackup: {"Token", "Private", "Sensitive", "Extractable", "NeverExtractable", "Local", "Sign", "Decrypt", "Derive", "Unwrap", "WrapWithTrusted"},
	}
	for class, good := range map[hsm.Class]hsm.Attributes{hsm.Sealed: sealed, hsm.Backup: backup, hsm.Restored: restored, hsm.RestoredBackup: again} {
		if err := good.CheckFresh(class); err != nil {
			t.Errorf("%s: %v", class, err)
		}
		for _, field := range matter[class] {
			bad := good
			v := reflect.ValueOf(&bad).Elem().FieldByName(field)
			v.SetBool(!v.Bool())
			if err := bad.CheckFresh(class); !errors.Is(err, hsm.ErrAttributes) {
				t.Errorf("%s with %s turned round: %v", class, field, err)
			}
		}
		for other := range matter {
			if other != class && good.CheckFresh(other) == nil {
				t.Errorf("a %s key passes as %s", class, other)
			}
		}
	}
	unread := hsm.Attributes{Unread: true, Sign: true}
	if err := unread.CheckFresh(hsm.Unread); err != nil {
		t.Errorf("unread: %v", err)
	}
	for class, good := range map[hsm.Class]hsm.Attributes{"": sealed, hsm.Sealed: sealed, hsm.Backup: backup, hsm.Restored: restored, hsm.RestoredBackup: again} {
		good.Unread = true
		if err := good.CheckFresh(class); !errors.Is(err, hsm.ErrAttributes) {
			t.Errorf("a key whose attributes nobody read passes as %s: %v", class, err)
		}
		good.Unread = false
		if err := good.CheckFresh(hsm.Unread); !errors.Is(err, hsm.ErrAttributes) {
			t.Errorf("a %s key passes as unread: %v", class, err)
		}
	}
	if sealed.CheckFresh("open") == nil {
		t.Error("an unknown class passes")
	}
}
