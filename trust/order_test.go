package trust

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/tracetest"
)

// TestOrderOfCalls sees what a power cut would: a publication is whole on the disk before it is marked as whole, and what
// timestamp.json names is in place before it.
func TestOrderOfCalls(t *testing.T) {
	dir := os.Getenv(tracetest.Variable)
	if dir == "" {
		written := func(to string) []string {
			folder := to[:strings.LastIndex(to, "/")]
			return []string{"write " + folder + "/TMP", "fsync " + folder + "/TMP", "rename " + folder + "/TMP " + to, "fsync " + folder}
		}
		moved := func(name string) []string {
			return []string{"rename .pending/" + name + " " + name, "fsync " + name[:strings.LastIndex(name, "/")]}
		}
		want := slices.Concat(
			[]string{"mkdir .pending", "fsync .", "mkdir .pending/metadata", "fsync .pending"},
			written(".pending/metadata/2.snapshot.json"), written(".pending/metadata/timestamp.json"),
			[]string{"mkdir .pending/targets", "fsync .pending"},
			written(".pending/targets/x.crl"),
			[]string{"write .pending/TMP", "fsync .pending/TMP", "rename .pending/TMP .pending/complete", "fsync .pending"},
			[]string{"mkdir targets", "fsync ."}, moved("targets/x.crl"),
			[]string{"mkdir metadata", "fsync ."}, moved("metadata/2.snapshot.json"), moved("metadata/timestamp.json"),
		)
		got := tracetest.Files(t, t.TempDir(), regexp.MustCompile(`\.hanaper-[^/]*\.tmp`))
		got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "unlink ") })
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return
	}
	files := Files{"targets/x.crl": []byte("crl"), "metadata/timestamp.json": []byte("ts"), "metadata/2.snapshot.json": []byte("snap")}
	if err := errors.Join(writePending(dir, files), finishPending(dir)); err != nil {
		t.Fatal(err)
	}
}
