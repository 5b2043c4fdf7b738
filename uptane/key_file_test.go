package uptane

import (
	"errors"
	"strings"
	"testing"
)

// TestKeyTypeInAnyCase: .pub files of the field name the type in either case; in metadata, which is signed, it stands as the
// server writes it, and the error does not say that devices refuse it.
func TestKeyTypeInAnyCase(t *testing.T) {
	w := newWorld()
	for _, k := range []Key{key(t, w.rootA), key(t, w.rootB)} {
		file := string(must(k.MarshalJSON()))
		lower := strings.Replace(file, `"`+string(k.Type())+`"`, `"`+strings.ToLower(string(k.Type()))+`"`, 1)
		if lower == file {
			t.Fatal(file)
		}
		got, err := ParseKey([]byte(lower))
		if err != nil || got.ID() != k.ID() || got.Type() != k.Type() {
			t.Errorf("%s: %v", lower, err)
		}
		root := strings.Replace(string(w.root(t).Bytes()), `"`+string(k.Type())+`"`, `"`+strings.ToLower(string(k.Type()))+`"`, 1)
		if _, err := ParseRoot([]byte(root)); !errors.Is(err, ErrKeyType) || strings.Contains(err.Error(), "devices") {
			t.Errorf("in a root: %v", err)
		}
	}
}
