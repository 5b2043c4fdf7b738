package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
)

// newTPMStore makes a store in a TPM by the command line, and gives its URI.
func (d desk) newTPMStore(c *tpmtest.Chip, label string, more ...string) hsm.URI {
	d.Helper()
	d.write("tpm-pin", "correct-horse\n")
	d.ok(append([]string{"token", "init", "--store", d.path(label), "--device", c.Socket, "--label", label, "--transcript", d.path("tokens.log"), "--pin-source", d.path("tpm-pin")}, more...)...)
	var listed []listedToken
	if err := json.Unmarshal([]byte(d.ok("token", "list", "--store", d.path(label), "--device", c.Socket, "--json")), &listed); err != nil || len(listed) != 1 {
		d.Fatalf("%v: %v", listed, err)
	}
	u, err := hsm.ParseURI(listed[0].URI)
	if err != nil || u.Scheme != hsm.SchemeTPM || u.Token != label || u.Serial == "" || u.Store != d.path(label) {
		d.Fatalf("%s: %v", listed[0].URI, err)
	}
	u.PINSource = d.path("tpm-pin")
	return u
}

// TestTokenTPM: the verbs of tokens, on a TPM.
func TestTokenTPM(t *testing.T) {
	d, c := desk{t, t.TempDir()}, tpmtest.New(t)
	if out := d.ok("token", "list", "--device", c.Socket); !strings.Contains(out, "blank") || !strings.Contains(out, "IBM") {
		t.Error(out)
	}
	d.refused(2, "0,2,7", "keys", "token", "init", "--store", d.path("keys"), "--device", c.Socket, "--label", "ada", "--transcript", d.path("log"), "--pcrs", "16")
	d.refused(2, "transcript", "keys", "token", "init", "--store", d.path("keys"), "--device", c.Socket, "--label", "ada")
	d.refused(2, "--module", "keys", "token", "init", "--store", d.path("keys"), "--module", "/lib.so", "--label", "ada", "--transcript", d.path("log"))
	d.refused(2, "--pcrs", "keys", "token", "init", "--pcrs", "0", "--module", "/lib.so", "--label", "ada", "--transcript", d.path("log"))
	d.refused(1, "/no/such", "keys", "token", "init", "--store", d.path("keys"), "--device", "/no/such", "--label", "ada", "--transcript", d.path("log"), "--pin-source", d.write("p", "123456"))
	d.nothing("log")
	u := d.newTPMStore(c, "ada")
	d.refused(2, "it is no attestor", "ch.json", "token", "challenge", "--attestor", d.write("no-attestor.json", "{\"payloadType\": 1}"), "--manufacturers", c.Roots, "--maker", "ada", "--out", d.path("ch.json"))
	// Nobody is asked for a PIN for a store that is there already.
	d.refused(3, "holds something", "other.log", "token", "init", "--store", d.path("ada"), "--device", c.Socket, "--label", "ada", "--transcript", d.path("other.log"))
	sign := regexp.MustCompile(`tpm:\S+`).FindString(d.ok("token", "key", "--label", "signing", "--algorithm", "P-256", "--transcript", d.path("tokens.log"), u.String()))
	agree := regexp.MustCompile(`tpm:\S+`).FindString(d.ok("token", "key", "--label", "shares", "--algorithm", "P-384", "--use", "agree", "--transcript", d.path("tokens.log"), u.String()))
	d.refused(2, "RSA-4096", "other.log", "token", "key", "--label", "big", "--algorithm", "RSA-4096", "--transcript", d.path("other.log"), u.String())
	d.refused(3, "exists already", "", "token", "key", "--label", "signing", "--transcript", d.path("tokens.log"), u.String())
	if out := d.ok("token", "show", u.String()); !strings.Contains(out, "private keys: 2") || !strings.Contains(out, "sealed") || !strings.Contains(out, "derive") {
		t.Error(out)
	}
	if out := d.ok("token", "show", "--public", u.String()); !strings.Contains(out, "private keys: 2") {
		t.Error(out)
	}
	// An officer whose keys are in a TPM enrols, approves and signs.
	d.ok("officer", "enroll", "--name", "Ada", "--key", sign+"&pin-source="+d.path("tpm-pin"), "--decryption-key", agree+"&pin-source="+d.path("tpm-pin"), "--out", d.path("ada.json"))
	if kinds := leaves(t, d.path("tokens.log"), "correct-horse"); kinds != "token-init-intent token-init key-generate-intent key-generate key-generate-intent key-generate key-generate-intent key-generate-failed" {
		t.Error(kinds)
	}
	d.write("tpm-pin", "another-horse\n")
	d.refused(1, "PIN refused", "", "token", "show", u.String())
	if out := d.ok("token", "list", "--store", d.path("ada"), "--device", c.Socket); !strings.Contains(out, "counted 1 wrong PIN of 3") {
		t.Error(out)
	}
}

var officerFlagOf = regexp.MustCompile(`--officer "([^"]+)"`)

// TestBornInATPM: a two-of-three ceremony whose officers sign with PIV cards and whose Fleet Root is born in a TPM: performed, verified
// offline, its birth certificate checked.
func TestBornInATPM(t *testing.T) {
	d, maker, readers := desk{t, t.TempDir()}, tpmtest.NewManufacturer(t), cardtest.New(t)
	c, stranger := maker.New(t), tpmtest.New(t)
	d.write("card-pin", "271828\n")
	d.write("yes", "Yes\n")
	now := time.Now().UTC().Truncate(time.Second)
	stamp := func(after time.Duration) string { return now.Add(after).Format(time.RFC3339) }
	officers := map[string]string{}
	enrolments := []string{"roster", "new", "--environment", "production", "--threshold", "2", "--time", stamp(-time.Hour), "--out", d.path("roster.json")}
	for i, name := range []string{"ada", "berta", "clara"} {
		readers.Insert(t, i, cardtest.NewCard())
		answers := d.write("answers", strings.Join([]string{"Yes", "-", cardtest.DefaultPIN, cardtest.DefaultPUK, "271828", "271828", "31415926", "31415926"}, "\n")+"\n")
		out := d.ok("officer", "card-setup", "--name", name, "--reader", readers.Name(i), "--module", cardtest.Module(t), "--algorithm", []string{"P-256", "P-384", "RSA-2048"}[i],
			"--transcript", d.path("cards.log"), "--out", d.path(name+".json"), "--answers", answers)
		m := officerFlagOf.FindStringSubmatch(out)
		if m == nil {
			t.Fatal(out)
		}
		officers[name] = m[1] + "&pin-source=" + d.path("card-pin")
		enrolments = append(enrolments, d.path(name+".json"))
	}
	d.ok(enrolments...)

	u := d.newTPMStore(c, "roots")
	d.ok("token", "attestor", "--out", d.path("attestor.json"), u.String())
	d.refused(2, "exists already", "", "token", "attestor", "--out", d.path("attestor.json"), u.String())
	for name, from := range map[string]string{"ek-roots.pem": c.Roots, "strange-roots.pem": stranger.Roots} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		d.write(name, string(data))
	}
	for _, name := range []string{"ada", "berta"} {
		out := d.ok("token", "challenge", "--attestor", d.path("attestor.json"), "--manufacturers", d.path("ek-roots.pem"), "--maker", name, "--out", d.path("challenge-"+name+".json"))
		if !strings.Contains(out, u.Serial) {
			t.Error(out)
		}
	}
	d.refused(4, "pinned manufacturer", "no.json", "token", "challenge", "--attestor", d.path("attestor.json"), "--manufacturers", d.path("strange-roots.pem"), "--maker", "ada", "--out", d.path("no.json"))

	d.write("bindings.yaml", fmt.Sprintf("tokens:\n  roots: %q\n", hsm.URI{Scheme: hsm.SchemeTPM, Device: u.Device, Store: u.Store, PINSource: u.PINSource}.String()))
	script := func(algorithm, class, roots string) {
		pin := func(name string) string { return fmt.Sprintf("{file: %s, sha256: %s}", name, d.digest(name)) }
		d.write("script.yaml", fmt.Sprintf(`version: 1
ceremony: born
environment: production
window: {from: %s, until: %s}
roster: %s
tokens:
  roots:
    uri: "tpm:token=roots;serial=%s"
    birth: {manufacturers: ek-roots, attestor: attestor, challenges: [ada, berta]}
inputs:
  ek-roots: %s
  attestor: %s
  ada: %s
  berta: %s
steps:
  - generate-key: {name: root-key, token: roots, label: Fleet Root, algorithm: %s, class: %s}
  - root-certificate:
      name: root
      key: root-key
      profile: fleet-root
      subject: {common_name: Fleet Root born in a TPM}
      not_before: %s
      not_after: 2046-11-21T00:00:00Z
  - crl: {name: root-crl, issuer: root, number: 1, this_update: %s, next_update: 2027-11-21T00:00:00Z}
`, stamp(-time.Hour), stamp(24*time.Hour), pin("roster.json"), u.Serial, pin(roots), pin("attestor.json"), pin("challenge-ada.json"), pin("challenge-berta.json"), algorithm, class, stamp(-time.Hour), stamp(-time.Hour)))
	}
	for _, bad := range [][4]string{
		{"RSA-4096", "sealed", "ek-roots.pem", "a TPM makes no keys of algorithm RSA-4096"},
		{"Ed25519", "sealed", "ek-roots.pem", "a TPM makes no keys of algorithm Ed25519"},
		{"P-384", "backup", "ek-roots.pem", "never leaves it"},
		{"P-384", "sealed", "strange-roots.pem", "pinned manufacturer"},
	} {
		script(bad[0], bad[1], bad[2])
		code, _, errs := hanaper(t, "ceremony", "check", d.path("script.yaml"))
		if code == 0 || !strings.Contains(errs, bad[3]) {
			t.Errorf("%v: exit %d: %s", bad, code, errs)
		}
	}
	script("P-384", "sealed", "ek-roots.pem")
	d.ok("ceremony", "check", d.path("script.yaml"))
	approve := func(who, with string) {
		args := []string{"ceremony", "approve", "--officer", officers[who], "--out", d.path("approval-" + who), "--answers", d.path("yes")}
		if with != "" {
			args = append(args, "--with", d.path("approval-"+with))
		}
		d.ok(append(args, d.path("script.yaml"))...)
	}
	approve("ada", "")
	approve("clara", "ada")
	run := func(bindings string) []string {
		return []string{"ceremony", "run", "--out", d.path("out"), "--officer", officers["ada"], "--officer", officers["clara"], "--bindings", d.path(bindings), "--time", stamp(0),
			"--state", d.path("state"), "--answers", d.path("yes"), "--approval", d.path("approval-ada"), "--approval", d.path("approval-clara"), d.path("script.yaml")}
	}
	d.write("no-store.yaml", "tokens:\n  roots: \"tpm:?device=/dev/tpmrm0\"\n")
	d.refused(2, "store=", "out", run("no-store.yaml")...)
	d.write("other-kind.yaml", "tokens:\n  roots: \"pkcs11:?module-path=/lib.so\"\n")
	d.refused(2, "store=", "out", run("other-kind.yaml")...)
	d.ok(run("bindings.yaml")...)
	c.Stop()
	out := d.ok("ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out"))
	if !strings.Contains(out, "key root-key was born in a TPM of ") || !strings.Contains(out, "challenges by ada, berta") {
		t.Error(out)
	}
	if out := d.ok("ceremony", "record", "--roster", d.digest("roster.json"), "--out", d.path("record.html"), d.path("out")); !strings.Contains(d.text("record.html"), "certified as born in a TPM of") {
		t.Error(out)
	}
	d.openssl("x509", "-in", d.path("out/artefacts/root.pem"), "-noout", "-checkend", "0")
}
