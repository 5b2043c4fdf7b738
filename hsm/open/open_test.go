package open_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/internal/advice"
)

// TestOtherStores: a program that does not ask for other stores opens none, one that does says what to install, and neither starts
// anything that is not there.
func TestOtherStores(t *testing.T) {
	for _, scheme := range hsm.KMSSchemes() {
		u, err := hsm.ParseURI(scheme + ":name=x")
		if err != nil {
			t.Fatal(err)
		}
		if tok, err := open.Token(t.Context(), open.Config{URI: u}); tok != nil || advice.KindOf(err) != advice.Usage || !strings.Contains(err.Error(), "opens no "+scheme) {
			t.Errorf("%s: %v, %v", scheme, tok, err)
		}
		away := filepath.Join(t.TempDir(), "hanaper-kms")
		if tok, err := open.Token(t.Context(), open.Config{URI: u, Stores: away}); tok != nil || err == nil || !strings.Contains(advice.Hint(err), "install hanaper-kms") {
			t.Errorf("%s without the program: %v, %v", scheme, tok, err)
		}
	}
}
