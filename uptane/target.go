package uptane

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// Target is one entry of a targets document.
type Target struct {
	// Length in bytes; 0 for an OSTree commit.
	Length int64
	// SHA256 and SHA512 are lower-case hex. SHA256 is required; SHA512 may be empty.
	SHA256 string
	SHA512 string
	// Custom is the entry's custom object, empty when it has none. ImageCustom and DirectorCustom read it.
	Custom json.RawMessage
}

// Equal reports whether two entries say the same.
func (t Target) Equal(o Target) bool {
	return t.Length == o.Length && t.SHA256 == o.SHA256 && t.SHA512 == o.SHA512 && string(t.Custom) == string(o.Custom)
}

// hasCustom is false for an absent custom object and for the null that the server writes for one.
func (t Target) hasCustom() bool { return len(t.Custom) > 0 && string(t.Custom) != "null" }

// CheckTargetName refuses a file name that the server refuses.
func CheckTargetName(name string) error { return refused(checkTargetName(name)) }

func checkTargetName(name string) error {
	if err := checkText("target name", name); err != nil {
		return err
	}
	if name == "" || len(name) > MaxTargetName || strings.Contains(name, "..") || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 }) {
		return because(ErrMalformed, "target name %q is empty, longer than %d characters, or holds two dots in a row or a control character", name, MaxTargetName)
	}
	return nil
}

func isHex(s string, digits int) bool {
	if len(s) != digits {
		return false
	}
	for i := range len(s) {
		if !hexDigit[s[i]] {
			return false
		}
	}
	return true
}

// hexDigit says of each byte whether it is a lower-case hex digit.
var hexDigit = func() (t [256]bool) {
	for _, c := range "0123456789abcdef" {
		t[c] = true
	}
	return t
}()

// check is what both directions demand of an entry.
func (t Target) check(name string, repo Repository) error {
	if err := checkTargetName(name); err != nil {
		return err
	}
	if t.Length < 0 {
		return because(ErrMalformed, "target %q: length %d is negative", name, t.Length)
	}
	if !isHex(t.SHA256, 64) {
		return because(ErrHash, "target %q: sha256 %q is not 64 lower-case hex digits", name, t.SHA256)
	}
	if t.SHA512 != "" && !isHex(t.SHA512, 128) {
		return because(ErrHash, "target %q: sha512 %q is not 128 lower-case hex digits", name, t.SHA512)
	}
	return nil
}

func (t Target) write(w *writer) {
	w.open()
	if len(t.Custom) > 0 {
		w.key("custom")
		w.b = append(w.b, t.Custom...)
	}
	w.key("hashes")
	w.open()
	w.key("sha256")
	w.text(t.SHA256)
	if t.SHA512 != "" {
		w.key("sha512")
		w.text(t.SHA512)
	}
	w.close()
	w.key("length")
	w.raw(strconv.FormatInt(t.Length, 10))
	w.close()
}

// targetOf reads an entry but its custom object, which is custom; nil if it has none.
func targetOf(name string, v *value) (t Target, custom *value, err error) {
	r := reader{where: "target", name: name}
	o := r.object(v)
	r.only(o, "custom", "hashes", "length")
	t.Length = r.integer(o, "length", 0, math.MaxInt64)
	hashes := r.object(r.member(o, "hashes"))
	r.only(hashes, "sha256", "sha512")
	t.SHA256 = r.text(hashes, "sha256")
	if _, ok := hashes.get("sha512"); ok {
		t.SHA512 = r.text(hashes, "sha512")
	}
	if c, ok := o.get("custom"); ok {
		if c.kind != null {
			custom = r.object(c)
		}
	}
	return t, custom, r.err
}

// CheckTarget refuses an entry of the Image repository that devices or the server would refuse.
func CheckTarget(name string, t Target) error { return refused(t.check(name, Image)) }
