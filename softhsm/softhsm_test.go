package softhsm_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) { softhsm.Main(m) }

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := softhsm.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := os.Getenv(softhsm.ConfigVariable)
	a, err := s.Create("Fleet Root 1")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Create("factory")
	if err != nil {
		t.Fatal(err)
	}
	if after := os.Getenv(softhsm.ConfigVariable); after != before {
		t.Errorf("%s is %q, was %q", softhsm.ConfigVariable, after, before)
	}
	if a.Serial == "" || a.Serial == b.Serial || string(a.PIN) == string(b.PIN) || string(a.PIN) == string(a.SOPIN) || len(a.PIN) != 16 {
		t.Errorf("%+v, %+v", a, b)
	}
	if _, err := hsm.ParseURI(a.URI); err != nil || strings.Contains(a.URI, string(a.PIN)) {
		t.Errorf("%s: %v", a.URI, err)
	}
	// The PINs are what pkcs11-tool logs in with, and the token is in this store only.
	for _, c := range []struct{ label, pin, option string }{{"Fleet Root 1", string(a.PIN), "--pin"}, {"factory", string(b.PIN), "--pin"}} {
		cmd := exec.Command("pkcs11-tool", "--module", a.Module, "--token-label", c.label, "--login", c.option, c.pin, "-O")
		cmd.Env = append(os.Environ(), s.Env()...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	if _, err := s.Create("factory"); err == nil {
		t.Error("a label was given twice")
	}
	for _, bad := range []string{"", "a/b", "../x", strings.Repeat("a", 33), ".hidden", "a\nb"} {
		if _, err := s.Create(bad); err == nil {
			t.Errorf("label %q accepted", bad)
		}
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// Found again by another opening.
	again, err := softhsm.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	found, err := again.Board("factory")
	if err != nil || found.URI != b.URI || string(found.PIN) != string(b.PIN) || string(found.SOPIN) != string(b.SOPIN) {
		t.Errorf("%+v, %v", found, err)
	}
	if err := again.Destroy(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("after Destroy: %v", err)
	}
}

func TestRefusesForeignFolders(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := softhsm.New(dir); err == nil {
		t.Error("New took a folder with other files")
	}
	if _, err := softhsm.New(filepath.Join(t.TempDir(), "a#b")); err == nil {
		t.Error("New took a folder that its configuration cannot name")
	}
	made, err := softhsm.New(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(made.Dir(), ".hanaper-softhsm")); err != nil {
		t.Fatal(err)
	}
	if err := made.Destroy(); err == nil {
		t.Error("Destroy removed a folder without the marker")
	}
	if _, err := os.Stat(made.Config()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestForTestIsOneStore(t *testing.T) {
	a, b := softhsm.ForTest(t), softhsm.ForTest(t)
	if a != b || os.Getenv(softhsm.ConfigVariable) != a.Config() {
		t.Error("ForTest does not share its store")
	}
	board, err := a.Create("one")
	if err != nil {
		t.Fatal(err)
	}
	u, _ := hsm.ParseURI(board.URI)
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	// While a token is open: a further one in the same store, and none in another.
	if _, err := a.Create("two"); err != nil {
		t.Error(err)
	}
	other, err := softhsm.New(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Create("x"); err == nil {
		t.Error("a token was made in a store that is not in use")
	}
	if left, _ := filepath.Glob(filepath.Join(other.Dir(), "*pin")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
