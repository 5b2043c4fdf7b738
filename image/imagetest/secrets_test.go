package imagetest

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// noSecrets: no stick holds a PIN or a passphrase that was typed at a machine, in files, in names, or in what is left of files.
func (d *desk) noSecrets(s sticks, guests ...*guest) {
	d.t.Helper()
	for what, secret := range map[string]string{"the token's PIN": d.pin, "the passphrase": d.passphrase} {
		if !slices.ContainsFunc(guests, func(g *guest) bool { return g.typed[secret] }) {
			d.t.Errorf("%s was not typed: nothing is shown by a stick without it", what)
		}
	}
	// What each holds as everybody may read it: a search that does not find this looks at something else.
	for path, known := range map[string]string{s.fleet: "ceremony: at-the-image", s.copy: "ceremony: at-the-image", s.token: "Fleet Roots", s.state: "at-the-image"} {
		data, err := os.ReadFile(path)
		if err != nil {
			d.t.Fatal(err)
		}
		if !bytes.Contains(data, []byte(known)) {
			d.t.Errorf("%s does not hold %q, which the ceremony wrote", filepath.Base(path), known)
		}
		for what, secret := range map[string]string{"the token's PIN": d.pin, "the passphrase": d.passphrase} {
			for _, form := range heldIn(data, secret) {
				d.t.Errorf("%s holds %s, %s", filepath.Base(path), what, form)
			}
		}
	}
}

// heldIn gives the forms in which a secret stands in what a stick holds, whatever a file system says of it.
func heldIn(stick []byte, secret string) (found []string) {
	var data []byte
	for block := range slices.Chunk(stick, 4096) { // most of a stick is empty
		if len(bytes.Trim(block, "\x00")) > 0 {
			data = append(data, block...)
		}
	}
	s, lower := []byte(secret), bytes.ToLower(data)
	backwards := slices.Clone(s)
	slices.Reverse(backwards)
	forms := map[string][]byte{"as it is": s, "backwards": backwards, "in base32": []byte(base32.StdEncoding.EncodeToString(s)[:len(s)*8/5]), "in hexadecimal": []byte(hex.EncodeToString(s))}
	for name, order := range map[string][2]int{"in UTF-16, little end first": {0, 1}, "in UTF-16, big end first": {1, 0}} {
		wide := make([]byte, 2*len(s))
		for i, u := range utf16.Encode([]rune(secret)) {
			wide[2*i+order[0]], wide[2*i+order[1]] = byte(u), byte(u>>8)
		}
		forms[name] = wide
	}
	// In base64 each third place looks another way, and its ends hang on what stands beside it.
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), s...))
		forms["in base64, "+string(rune('0'+shift))] = []byte(text[(shift*8+5)/6 : len(text)-1])
	}
	sum1, sum2, sum5 := sha1.Sum(s), sha256.Sum256(s), md5.Sum(s)
	for name, sum := range map[string][]byte{"SHA-1": sum1[:], "SHA-256": sum2[:], "MD5": sum5[:]} {
		forms["its "+name], forms["its "+name+" in hexadecimal"] = sum, []byte(hex.EncodeToString(sum))
	}
	for name, form := range forms {
		// Small letters: short names on FAT have capitals alone, and so may a hexadecimal number.
		if bytes.Contains(data, form) || bytes.Contains(lower, bytes.ToLower(form)) {
			found = append(found, name)
		}
	}
	// A long name on FAT is cut into pieces of 5, 6 and 2 characters in UTF-16.
	if !strings.Contains(secret, " ") {
		for i := 0; i+5 <= len(s); i++ {
			if bytes.Contains(data, wideOf(secret[i:i+5])) && !slices.Contains(found, "in UTF-16, little end first") {
				return append(found, "in the name of a file")
			}
		}
	}
	slices.Sort(found)
	return found
}

func wideOf(s string) (wide []byte) {
	for _, c := range []byte(s) {
		wide = append(wide, c, 0)
	}
	return wide
}

// TestSecretsAreFound: the search finds a PIN on a stick in each form, also of a file that was deleted, and in the name of one; and finds
// nothing on a stick that has none.
func TestSecretsAreFound(t *testing.T) {
	const pin = "k4vq7zmx2odw5nth"
	dir := t.TempDir()
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	wide := string(wideOf(pin))
	sum := sha256.Sum256([]byte(pin))
	contents := map[string]string{
		"as it is": "x" + pin, "in capitals": strings.ToUpper(pin), "in UTF-16": "xx" + wide, "in hexadecimal": hex.EncodeToString([]byte(pin)), "in capital hexadecimal": strings.ToUpper(hex.EncodeToString([]byte(pin))),
		"in base64": base64.StdEncoding.EncodeToString([]byte(pin)), "in base64 behind one": base64.StdEncoding.EncodeToString([]byte("x" + pin + "y")), "in base64 behind two": base64.URLEncoding.EncodeToString([]byte("xy" + pin + "\n")),
		"in base32": base32.StdEncoding.EncodeToString([]byte(pin)), "its digest": string(sum[:]), "its digest as text": hex.EncodeToString(sum[:]), "backwards": "htn5wdo2xmz7qv4k", "none": "nothing of it", "half of it": pin[:8],
	}
	for name, content := range contents {
		file, stick, journal := filepath.Join(dir, "file"), filepath.Join(dir, "fat.img"), filepath.Join(dir, "ext4.img")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		fat(t, stick, "FLEET", file)
		host(t, "mdel", "-i", stick, "::file")
		ext4(t, journal, "TOKEN", "")
		host(t, "debugfs", "-w", "-R", "write "+file+" file", journal)
		host(t, "debugfs", "-w", "-R", "rm file", journal)
		for _, image := range []string{stick, journal} {
			if found := heldIn(read(image), pin); (len(found) > 0) != (name != "none" && name != "half of it") {
				t.Errorf("%s on %s: %q", name, filepath.Base(image), found)
			}
		}
	}
	named := filepath.Join(dir, "a record of "+pin+".txt")
	if err := os.WriteFile(named, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := heldIn(read(fat(t, filepath.Join(dir, "named.img"), "FLEET", named)), pin); len(found) == 0 {
		t.Error("a name that holds it is not found")
	}
}

// digests are those of files.
func digests(t testing.TB, paths []string) (list []string) {
	t.Helper()
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		list = append(list, filepath.Base(path)+" "+hex.EncodeToString(sum[:]))
	}
	return list
}
