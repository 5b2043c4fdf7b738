// Package arch holds no code, only the tests that keep the house in the shape of its design: who may import whom.
package arch

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hanaper/hanaper/"

// allowed says what each room may import of the other rooms; internal is open to all. A room's own name covers its
// files, not the rooms inside it.
var allowed = map[string][]string{
	"hsm":               {},
	"csr":               {},
	"journal":           {},
	"uptane":            {},
	"hsm/pkcs11":        {"hsm"},
	"hsm/tpm":           {"hsm"},
	"hsm/kms":           {"hsm"},
	"softhsm":           {"hsm", "hsm/pkcs11"},
	"quorum":            {},
	"trust":             {},
	"trust/feed":        {"trust"},
	"ca":                {"csr"},
	"uptane/repo":       {"uptane"},
	"uptane/reposerver": {"uptane"},
	"uptane/office":     {"uptane", "uptane/repo", "uptane/reposerver"},
	"ceremony":          {"hsm", "ca", "csr", "quorum", "journal", "trust", "uptane", "ceremony/paper", "ceremony/machine"},
	"ceremony/machine":  {"journal"},
	"ceremony/paper":    {},
	"ceremony/calendar": {"quorum"},
	"factory":           {"hsm", "ca", "csr", "quorum", "journal"},
	"factory/store":     {"factory"},
	"factory/station":   {"factory", "hsm", "ca", "csr"},
	"gateway":           {"trust", "trust/feed", "journal"},
	"gateway/registry":  {"gateway"},
}

// onlyIn says in which rooms alone an outside package may be imported.
var onlyIn = map[string][]string{
	"github.com/miekg/pkcs11":              {"hsm/pkcs11"},
	"github.com/google/go-tpm":             {"hsm/tpm"},
	"github.com/smallstep/certificates":    {"factory"},
	"github.com/theupdateframework/go-tuf": {"trust", "trust/feed"},
	"codeberg.org/go-pdf/fpdf":             {"ceremony/paper"},
	"modernc.org/sqlite":                   {"factory/store", "gateway/registry", "uptane/reposerver"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("go list: %s", ee.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func room(path string) string { return strings.TrimPrefix(path, module) }

func TestArrows(t *testing.T) {
	rooms := 0
	scaffolds := map[string]bool{}
	pkgs := list(t, "./...")
	for _, p := range pkgs {
		from := room(p.ImportPath)
		if strings.HasPrefix(from, "internal/") {
			for _, i := range p.Imports {
				if to := room(i); to != i && !strings.HasPrefix(to, "internal/") {
					t.Errorf("%s imports %s: internal knows no room", from, to)
				}
			}
			continue
		}
		if strings.HasSuffix(from, "test") {
			scaffolds[p.ImportPath] = true // what several packages' tests share; held to the last check below
			continue
		}
		rooms++
		cmd := strings.HasPrefix(from, "cmd/")
		can, known := allowed[from]
		if !known && !cmd {
			t.Errorf("%s is no room of the design: add it to the design and to this test", from)
		}
		for _, i := range p.Imports {
			to := room(i)
			switch {
			case to == i: // not ours
			case strings.HasPrefix(to, "internal/"):
			case strings.HasPrefix(to, "cmd/"):
				t.Errorf("%s imports %s: nothing imports a program", from, to)
			case cmd && to == "ceremony" && from != "cmd/hanaper":
				t.Errorf("%s imports ceremony: only cmd/hanaper may", from)
			case cmd:
			case !slices.Contains(can, to):
				t.Errorf("%s imports %s: the design has no such arrow", from, to)
			}
			for outside, homes := range onlyIn {
				if (i == outside || strings.HasPrefix(i, outside+"/")) && !slices.Contains(homes, from) {
					t.Errorf("%s imports %s, which only %v may", from, i, homes)
				}
			}
		}
	}
	for _, p := range pkgs {
		for _, i := range p.Imports {
			if scaffolds[i] && !scaffolds[p.ImportPath] {
				t.Errorf("%s imports %s, which is for tests only", room(p.ImportPath), room(i))
			}
		}
	}
	if rooms < 10 {
		t.Errorf("only %d rooms found: the test looks in the wrong place", rooms)
	}
}

// TestNoNetworkAtTheAirGap: the officers' program, and what it is made of, link no net/http.
func TestNoNetworkAtTheAirGap(t *testing.T) {
	for _, p := range list(t, "./cmd/hanaper", "./ceremony", "./quorum", "./hsm/pkcs11", "./trust", "./uptane/repo") {
		for _, bad := range []string{"net/http", "net/rpc", "net/smtp"} {
			if slices.Contains(p.Deps, bad) {
				t.Errorf("%s links %s", room(p.ImportPath), bad)
			}
		}
		if len(p.Deps) < 10 {
			t.Errorf("%s: only %d dependencies listed", room(p.ImportPath), len(p.Deps))
		}
	}
}

// TestGatewayKnowsNoKeys: the program on the internet holds neither the code of a token nor that of an issuer.
func TestGatewayKnowsNoKeys(t *testing.T) {
	for _, p := range list(t, "./cmd/hanaper-gateway") {
		for _, bad := range []string{"ca", "hsm", "hsm/pkcs11", "factory", "ceremony", "softhsm", "quorum"} {
			if slices.Contains(p.Deps, module+bad) {
				t.Errorf("%s links %s", room(p.ImportPath), bad)
			}
		}
	}
}

// TestGatewayIsStatic: one file, no cgo, no interpreter, as the judge says that reads the binary itself.
func TestGatewayIsStatic(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "hanaper-gateway")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "./cmd/hanaper-gateway")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%v segment: the gateway is linked dynamically", p.Type)
		}
	}
}

// TestMainsAreThin: a main parses, wires and runs; about 60 lines are enough.
func TestMainsAreThin(t *testing.T) {
	mains, err := filepath.Glob("../../cmd/*/main.go")
	if err != nil || len(mains) < 6 {
		t.Fatalf("%d mains found, %v", len(mains), err)
	}
	for _, m := range mains {
		b, err := os.ReadFile(m)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte("\n")); n > 70 {
			t.Errorf("%s has %d lines", m, n)
		}
	}
}
