package repo

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/hanaper/hanaper/uptane"
)

// p12Files are a client certificate with its key, and a trust store, as archives hold them.
func p12Files(t testing.TB) (client, server []byte) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "build"}, NotBefore: noon, NotAfter: noon.AddDate(10, 0, 0)}
	cert := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key))))
	return must(pkcs12.Modern.Encode(key, cert, nil, "")), must(pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{cert}, ""))
}

const elf = "\x7fELF\x02\x01\x01\x00 a shared object that runs code when it is loaded"

// TestHostileContent: an archive whose entries are not what their names say. Nothing is loaded, and nothing written.
func TestHostileContent(t *testing.T) {
	client, _ := p12Files(t)
	key := string(must(pub("targets").MarshalJSON()))
	good := map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://r", EntryTargetsPub: key, EntryTargetsSec: stubFile("pkcs11:token=t;object=k")}
	with := func(change map[string]string) map[string]string {
		out := map[string]string{}
		for k, v := range good {
			out[k] = v
		}
		for k, v := range change {
			out[k] = v
		}
		return out
	}
	secret := func(seed string) string {
		return fmt.Sprintf(`{"keytype":"ED25519","keyval":{"private":"%s"}}`, hex.EncodeToString(seedKey(seed)))
	}
	cases := map[string]map[string]string{
		"client certificate is a library":           with(map[string]string{EntryClientAuth: elf}),
		"client certificate has no key":             with(map[string]string{EntryClientAuth: string(second(p12Files(t)))}),
		"server certificates are a library":         with(map[string]string{EntryClientAuth: string(client), EntryServer: elf}),
		"a library behind the client certificate":   with(map[string]string{EntryClientAuth: string(client) + elf}),
		"public half is a library":                  with(map[string]string{EntryTargetsPub: elf}),
		"private half is a library":                 with(map[string]string{EntryTargetsSec: elf}),
		"private half of another key":               with(map[string]string{EntryTargetsSec: secret("another")}),
		"private half of another type":              with(map[string]string{EntryTargetsSec: strings.Replace(secret("targets"), "ED25519", "RSA", 1)}),
		"private half that is none":                 with(map[string]string{EntryTargetsSec: `{"keytype":"ED25519","keyval":{"private":"../../x"}}`}),
		"both a private half and a URI":             with(map[string]string{EntryTargetsSec: `{"keytype":"ED25519","keyval":{"private":"00","uri":"pkcs11:token=t;object=k"}}`}),
		"a public key under which anybody can sign": with(map[string]string{EntryTargetsPub: `{"keytype":"ED25519","keyval":{"public":"` + strings.Repeat("00", 32) + `"}}`}),
		"a PIN in the URI":                          with(map[string]string{EntryTargetsSec: stubFile("pkcs11:token=t;object=k?pin-value=1234")}),
		"a URI of a file":                           with(map[string]string{EntryTargetsSec: stubFile("file:/etc/passwd")}),
		"a URI that names no key":                   with(map[string]string{EntryTargetsSec: stubFile("pkcs11:token=t?module-path=/x")}),
		"a URI that names no token":                 with(map[string]string{EntryTargetsSec: stubFile("pkcs11:object=k?module-path=/x")}),
		"a URI with two tokens":                     with(map[string]string{EntryTargetsSec: stubFile("pkcs11:token=a;token=b;object=k")}),
		"a server in a file":                        with(map[string]string{EntryRepoURL: "file:///etc/passwd"}),
		"a server with a password":                  with(map[string]string{EntryRepoURL: "https://u:p@r"}),
		"a login that is a library":                 with(map[string]string{EntryTreehub: elf}),
	}
	if len(cases) < 15 {
		t.Fatalf("only %d hostile archives", len(cases))
	}
	for name, entries := range cases {
		loaded := 0
		opener := func(context.Context, string) (crypto.Signer, io.Closer, error) {
			loaded++
			return seedKey("targets"), nil, nil
		}
		home := t.TempDir()
		if _, _, err := Init(filepath.Join(home, "r"), InitConfig{Credentials: archive(t, entries)}, opener); err == nil {
			t.Errorf("%s: taken", name)
		}
		if left := must(os.ReadDir(home)); len(left) != 0 || loaded != 0 {
			t.Errorf("%s: refused, but %v was written and %d keys opened", name, left, loaded)
		}
	}
	if _, _, err := Init(filepath.Join(t.TempDir(), "r"), InitConfig{Credentials: archive(t, good)}, nil); err != nil {
		t.Errorf("the honest archive: %v", err)
	}
}

func second[A, B any](_ A, b B) B { return b }

func stubFile(uri string) string {
	return fmt.Sprintf(`{"keytype":"ED25519","keyval":{"uri":%q}}`, uri)
}

// TestArchiveChoosesNoCode: of a key in a token, an archive names token and key, and nothing that would be loaded or read.
func TestArchiveChoosesNoCode(t *testing.T) {
	for name, uri := range map[string]string{
		"a library":             "pkcs11:token=t;object=k?module-path=/home/build/sign-repo/r/client_auth.p12",
		"a library in the path": "pkcs11:module-path=%2Ftmp%2Fevil.so;token=t;object=k",
		"a PIN file":            "pkcs11:token=t;object=k?pin-source=/etc/shadow",
		"a PIN program":         "pkcs11:token=t;object=k?pin-source=|touch%20x&module-path=/tmp/evil.so",
		"a slot":                "pkcs11:slot-id=0;token=t;object=k;library-description=evil",
	} {
		var asked []string
		opener := func(_ context.Context, uri string) (crypto.Signer, io.Closer, error) {
			asked = append(asked, uri)
			return seedKey("targets"), nil, nil
		}
		r, _, err := Init(filepath.Join(t.TempDir(), "r"), InitConfig{Credentials: archive(t, map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://r",
			EntryTargetsPub: string(must(pub("targets").MarshalJSON())), EntryTargetsSec: stubFile(uri)})}, opener)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(asked) != 0 {
			t.Errorf("%s: init opened %q", name, asked)
		}
		if _, _, err := r.Keys().Signer(context.Background(), "targets"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(asked) != 1 || asked[0] != "pkcs11:token=t;object=k" {
			t.Errorf("%s: what is opened is %q", name, asked)
		}
	}
}

// TestArchiveIsPackedAnew: a file that is an archive to one reader and something else to another is not kept as it came.
func TestArchiveIsPackedAnew(t *testing.T) {
	data := append([]byte(elf), archive(t, map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://r", "other.txt": "kept"})...)
	dir := filepath.Join(t.TempDir(), "r")
	r, _, err := Init(dir, InitConfig{Credentials: data}, nil)
	if err != nil {
		return // refused is as well
	}
	kept := must(os.ReadFile(r.Path("credentials.zip")))
	if !bytes.HasPrefix(kept, []byte("PK")) {
		t.Errorf("what is kept begins with %q", kept[:8])
	}
	if b, _ := must(ReadCredentials(kept)).Entry("other.txt"); string(b) != "kept" {
		t.Error("an entry was lost")
	}
}

// TestKeyByPath: a key may be named by the absolute path of its files, with and without the suffix.
func TestKeyByPath(t *testing.T) {
	elsewhere := NewKeys(filepath.Join(t.TempDir(), "safe"), nil)
	key := must(elsewhere.Generate("mine", uptane.Ed25519, 0, nil))
	here := NewKeys(filepath.Join(t.TempDir(), "keys"), nil)
	for _, suffix := range []string{"", ".pub", ".sec"} {
		name := filepath.Join(elsewhere.Dir(), "mine"+suffix)
		if got, err := here.Public(name); err != nil || got.ID() != key.ID() {
			t.Errorf("%s: %v", name, err)
		}
		if _, closer, err := here.Signer(context.Background(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			closer.Close()
		}
	}
	for _, bad := range []string{"../safe/mine", "a/b", "/", "/..", elsewhere.Dir() + "/.mine"} {
		if _, err := here.Public(bad); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestFoldersAreLeftOut: archives that were packed with their folders, and with files that nobody reads, are taken.
func TestFoldersAreLeftOut(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range []struct{ name, text string }{
		{"credentials/", ""}, {"credentials/inner/", ""}, {"credentials/inner/tufrepo.url", "https://evil"}, {"__MACOSX/._treehub.json", "x"}, {EntryTreehub, oauth}, {EntryRepoURL, "https://r"}, {"provision.json", "{}"},
	} {
		w := must(z.CreateHeader(&zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: time.Now()}))
		must(w.Write([]byte(e.text)))
	}
	z.Close()
	r, warnings, err := Init(filepath.Join(t.TempDir(), "r"), InitConfig{Credentials: b.Bytes()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Config().Reposerver != "https://r" || !strings.Contains(strings.Join(warnings, "\n"), "credentials/") {
		t.Errorf("%q, %q", r.Config().Reposerver, warnings)
	}
	if names := must(ReadCredentials(must(os.ReadFile(r.Path("credentials.zip"))))).Names(); strings.Join(names, " ") != "treehub.json tufrepo.url provision.json" {
		t.Errorf("kept: %q", names)
	}
	if _, err := os.Stat(r.Path("credentials")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a folder was made")
	}
}

// TestServerCertificates reads server.p12 in the forms that openssl and Java make.
func TestServerCertificates(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	for _, name := range []string{"one", "two"} {
		run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN="+name, "-days", "30", "-keyout", name+".key", "-out", name+".pem")
	}
	both := append(must(os.ReadFile(filepath.Join(dir, "one.pem"))), must(os.ReadFile(filepath.Join(dir, "two.pem")))...)
	if err := os.WriteFile(filepath.Join(dir, "both.pem"), both, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want int
	}{
		"certificates alone":       {[]string{"-nokeys", "-in", "both.pem"}, 2},
		"one certificate":          {[]string{"-nokeys", "-in", "one.pem"}, 1},
		"old algorithms":           {[]string{"-nokeys", "-in", "both.pem", "-legacy"}, 2},
		"not encrypted":            {[]string{"-nokeys", "-in", "both.pem", "-certpbe", "NONE"}, 2},
		"no checksum":              {[]string{"-nokeys", "-in", "both.pem", "-nomac"}, 2},
		"with a key":               {[]string{"-in", "one.pem", "-inkey", "one.key"}, 1},
		"with a name":              {[]string{"-nokeys", "-in", "one.pem", "-name", "server"}, 1},
		"with a name and old ones": {[]string{"-nokeys", "-in", "one.pem", "-name", "server", "-legacy"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			run(append([]string{"pkcs12", "-export", "-passout", "pass:", "-out", "server.p12"}, tc.args...)...)
			list, err := ReadServerCertificates("server.p12", must(os.ReadFile(filepath.Join(dir, "server.p12"))))
			if err != nil || len(list) != tc.want {
				t.Errorf("%d certificates, %v", len(list), err)
			}
		})
	}
	if list, err := ReadServerCertificates("server.p12", second(p12Files(t))); err != nil || len(list) != 1 {
		t.Errorf("with Java's trust attribute: %d certificates, %v", len(list), err)
	}
	run("pkcs12", "-export", "-passout", "pass:hush", "-out", "locked.p12", "-nokeys", "-in", "one.pem")
	for name, b := range map[string][]byte{"a password": must(os.ReadFile(filepath.Join(dir, "locked.p12"))), "empty": nil, "PEM": both, "cut": must(os.ReadFile(filepath.Join(dir, "server.p12")))[:200]} {
		if list, err := ReadServerCertificates("server.p12", b); err == nil {
			t.Errorf("%s: %d certificates", name, len(list))
		}
	}
}
