package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
)

// faultsOf are what readelf shows of a program that Debian's hardening would have otherwise.
func faultsOf(t *testing.T, program string) (faults []string) {
	t.Helper()
	out, err := exec.Command("readelf", "-W", "-h", "-l", "-d", program).CombinedOutput()
	if err != nil {
		t.Fatalf("readelf: %v\n%s", err, out)
	}
	for _, c := range []struct {
		fault, shown string
		want         bool
	}{
		{"is at a fixed address", `(?m)^  Type:\s+DYN \(Position-Independent Executable file\)$`, true},
		{"relocates its code", `\(TEXTREL\)|FLAGS\)\s.*TEXTREL`, false},
		{"leaves its table of functions writable", `(?m)^  GNU_RELRO `, true},
		{"binds functions when they are first called", `(?m)\(FLAGS\)\s+.*BIND_NOW[^\0]*\(FLAGS_1\)\s+Flags:.*\bNOW\b`, true},
		{"has an executable stack", `(?m)^  GNU_STACK .* RW  0x`, true},
		{"has code that can be written", `(?m)^  LOAD .* RWE 0x`, false},
		{"names folders of libraries", `\((RPATH|RUNPATH)\)`, false},
	} {
		if regexp.MustCompile(c.shown).Match(out) != c.want {
			faults = append(faults, c.fault)
		}
	}
	return faults
}

// TestHardened: each program of a release is what Debian's hardening asks of one, as readelf shows it. The gateway is static, so it has no table of
// functions that a loader would fill in; docs/packages.md says why it stays at a fixed address.
func TestHardened(t *testing.T) {
	for _, p := range []string{"hanaper", "hanaperd", "hanaper-station", "hanaper-gateway", "hanaper-repo", "hanaper-sign", "hanaper-kms"} {
		var want []string
		if p == "hanaper-gateway" {
			want = []string{"is at a fixed address", "leaves its table of functions writable", "binds functions when they are first called"}
		}
		if faults := faultsOf(t, programtest.Path(t, p)); !slices.Equal(faults, want) {
			t.Errorf("%s %s; want %s", p, strings.Join(faults, ", "), strings.Join(want, ", "))
		}
	}
}

// TestHardenedJudge: readelf's words are read rightly, of programs that gcc makes with one fault each.
func TestHardenedJudge(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { puts(\"\"); return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags string
		want  []string
	}{
		{"-pie -fPIE -Wl,-z,relro,-z,now", nil},
		{"-no-pie -Wl,-z,relro,-z,now", []string{"is at a fixed address"}},
		{"-pie -fPIE -Wl,-z,norelro,-z,now", []string{"leaves its table of functions writable"}},
		{"-pie -fPIE -Wl,-z,relro,-z,lazy", []string{"binds functions when they are first called"}},
		{"-pie -fPIE -Wl,-z,relro,-z,now,-z,execstack", []string{"has an executable stack"}},
		{"-pie -fPIE -Wl,-z,relro,-z,now -Wl,-rpath,/opt", []string{"names folders of libraries"}},
	} {
		args := append(strings.Fields(c.flags), "-o", filepath.Join(dir, "program"), source)
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			t.Fatalf("gcc %s: %v\n%s", c.flags, err, out)
		}
		if faults := faultsOf(t, filepath.Join(dir, "program")); !slices.Equal(faults, c.want) {
			t.Errorf("%s: %q, want %q", c.flags, faults, c.want)
		}
	}
}
