package trust_test

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

var update = flag.Bool("update", false, "make testdata/golden anew; its keys are thrown away")

// TestGolden opens a repository that an earlier release published: the format may grow, but what gateways hold must stay readable.
func TestGolden(t *testing.T) {
	const dir = "testdata/golden"
	if *update {
		w := trusttest.New(t)
		w.Import()
		w.AddCRL(1, 5)
		w.Content.Releases = []trust.Release{{Issuer: trust.IssuerID(w.Issuing.Cert), Serial: big.NewInt(5)}}
		w.Timestamp = w.Key()
		w.Keys.Timestamp = trust.One(w.Timestamp.Public())
		w.Rebuild()
		w.Import()
		w.AddCRL(2, 6, 7)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		files := trust.Files{}
		for name, data := range trusttest.Snap(t, w.Dir) {
			if _, wanted := w.View().Files()[name]; wanted {
				files[name] = data
			}
		}
		put(t, dir, files)
	}
	first, err := os.ReadFile(dir + "/metadata/1.root.json")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(first)
	pin, err := trust.ParsePin(hex.EncodeToString(digest[:]))
	if err != nil {
		t.Fatal(err)
	}
	v, err := trust.Open(os.DirFS(dir), pin, trusttest.Start)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := v.Versions(), (trust.Versions{Root: 2, Targets: 2, CRL: 3, Snapshot: 4, Timestamp: 4}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	issuing := v.Intermediates()[0]
	if v.Environment() != "test" || v.Revoked(issuing, big.NewInt(5)) || !v.Revoked(issuing, big.NewInt(6)) || !v.Revoked(issuing, big.NewInt(7)) {
		t.Error("the golden repository says something else")
	}
	// What docs/spec/trust.md prints is this repository's.
	spec, err := os.ReadFile("../docs/spec/trust.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"metadata/timestamp.json"} {
		data, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(spec), string(data)) {
			t.Errorf("docs/spec/trust.md does not show %s", name)
		}
	}
	for name, hash := range v.Files() {
		if strings.HasPrefix(name, "targets/") && !strings.Contains(string(spec), strings.ReplaceAll(name, hex.EncodeToString(hash[:]), hex.EncodeToString(hash[:4])+"…")) {
			t.Errorf("docs/spec/trust.md does not list %s", name)
		}
	}
}
