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

	"github.com/hanaper/hanaper/internal/programtest"
)

const module = "github.com/hanaper/hanaper/"

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

// TestNoNetworkAtTheAirGap: the officers' program, and what it is made of, link no net/http.
func TestNoNetworkAtTheAirGap(t *testing.T) {
	for _, p := range list(t, "./cmd/hanaper", "./ceremony", "./attest", "./quorum", "./hsm/pkcs11", "./trust", "./uptane/repo") {
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

// TestCloudsStayOutside: the libraries of the clouds are linked into no program but the one that is there for them, and into
// nothing that runs at the air gap.
func TestCloudsStayOutside(t *testing.T) {
	for _, p := range list(t, "./cmd/...", "./hsm/open") {
		if room(p.ImportPath) == "cmd/hanaper-kms" {
			continue
		}
		for _, d := range p.Deps {
			if d == module+"hsm/kms" || d == module+"factory/stepcas" || strings.HasPrefix(d, "go.step.sm/crypto/kms/") || strings.HasPrefix(d, "google.golang.org/grpc") {
				t.Errorf("%s links %s", room(p.ImportPath), d)
			}
		}
	}
}

// TestAirGapAsksForNoStores: the officers' program never names the program that serves other key stores, so that hsm/open refuses them.
func TestAirGapAsksForNoStores(t *testing.T) {
	asks := func(folder string) (n int) {
		files, err := filepath.Glob("../../" + folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", folder, len(files), err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(b, []byte("open.Stores")) + bytes.Count(b, []byte("Stores:")) + bytes.Count(b, []byte("hanaper-kms"))
		}
		return n
	}
	if asks("cmd/hanaper") != 0 || asks("ceremony") != 0 || asks("cmd/hanaperd") == 0 {
		t.Error("the officers' program asks for other key stores, or the services do not")
	}
}

// TestGatewayIsStatic: one file, no cgo, no interpreter, as the judge says that reads the binary itself.
func TestGatewayIsStatic(t *testing.T) {
	f, err := elf.Open(programtest.Path(t, "hanaper-gateway"))
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
