package trust_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/journal"
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
		put(t, dir, published(t, w))
	}
	pin := pinOf(t, dir)
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

// published are the files that a reader needs.
func published(t *testing.T, w *trusttest.World) trust.Files {
	files := trust.Files{}
	for name, data := range trusttest.Snap(t, w.Dir) {
		if _, wanted := w.View().Files()[name]; wanted {
			files[name] = data
		}
	}
	return files
}

func pinOf(t *testing.T, dir string) trust.Pin {
	t.Helper()
	first, err := os.ReadFile(dir + "/metadata/1.root.json")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(first)
	pin, err := trust.ParsePin(hex.EncodeToString(digest[:]))
	if err != nil {
		t.Fatal(err)
	}
	return pin
}

// TestGoldenFormat2 opens two publications of an earlier release, one after the other, as a gateway meets them: of format 1, and the next one, whose
// online metadata (checkpoints of issuance logs) and policy (rules for CRLs) have format 2.
func TestGoldenFormat2(t *testing.T) {
	const dir = "testdata/golden-2"
	if *update {
		w := trusttest.New(t)
		w.Import()
		w.AddCRL(1, 5)
		before := published(t, w)
		id := trust.IssuerID(w.Issuing.Cert)
		p := trust.DefaultPolicy("test")
		p.Format, p.CRLs = 2, []trust.CRLRule{{CA: id.String(), GraceHours: 48}}
		w.Content.Policy = p
		w.Rebuild()
		w.Import()
		for _, note := range [][]byte{checkpointOf("factory.plant7.example/issuance", 70000, 7), checkpointOf("factory.plant8.example/issuance", 3, 8)} {
			if err := offer(t, w, note, refresh); err != nil {
				t.Fatal(err)
			}
		}
		w.AddCRL(2, 5, 6)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		put(t, dir+"/before", before)
		put(t, dir+"/after", published(t, w))
	}
	pin := pinOf(t, dir+"/before")
	before, err := trust.Open(os.DirFS(dir+"/before"), pin, trusttest.Start)
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Logs()) != 0 || before.Policy().Format != 1 {
		t.Errorf("%+v, %+v", before.Logs(), before.Policy())
	}
	for how, open := range map[string]func() (*trust.View, error){
		"a new gateway": func() (*trust.View, error) { return trust.Open(os.DirFS(dir+"/after"), pin, trusttest.Start) },
		"one that had the earlier": func() (*trust.View, error) {
			return trust.OpenAfter(os.DirFS(dir+"/after"), before, pin, trusttest.Start)
		},
	} {
		v, err := open()
		if err != nil {
			t.Errorf("%s: %v", how, err)
			continue
		}
		logs, rules, issuing := v.Logs(), v.Policy(), v.Intermediates()[0]
		if len(logs) != 2 || logs[0].Origin != "factory.plant7.example/issuance" || logs[0].Size != 70000 || logs[0].Root[0] != 7 || logs[1].Size != 3 {
			t.Errorf("%s: %+v", how, logs)
		}
		if rules.Format != 2 || len(rules.CRLs) != 1 || rules.CRLs[0].GraceHours != 48 || rules.CRLs[0].CA != trust.IssuerID(issuing).String() {
			t.Errorf("%s: %+v", how, rules)
		}
		if info, ok := v.CRL(issuing); !ok || info.Number.Int64() != 2 || !rules.CRLUntil(info).Equal(info.NextUpdate.Add(48*time.Hour)) || !v.Revoked(issuing, big.NewInt(6)) {
			t.Errorf("%s: %+v", how, info)
		}
		if _, err := trust.OpenAfter(os.DirFS(dir+"/before"), v, pin, trusttest.Start); !errors.Is(err, trust.ErrRollback) {
			t.Errorf("%s: back to format 1: %v", how, err)
		}
	}
}

// TestGoldenFormat3 opens two publications of an earlier release, one after the other: with a policy of format 2, and the next one, which says what
// the environment is: its gateways, its stage, shared credentials, its logs with a signed checkpoint, and the devices' Uptane roots.
func TestGoldenFormat3(t *testing.T) {
	const dir = "testdata/golden-3"
	const origin = "factory.plant7.example/issuance"
	if *update {
		w := trusttest.New(t)
		id := trust.IssuerID(w.Issuing.Cert).String()
		w.Content.Policy = trust.DefaultPolicy("test")
		w.Content.Policy.CRLs = []trust.CRLRule{{CA: id, GraceHours: 48}}
		w.Content.Policy = w.Content.Policy.WithFormat()
		w.Rebuild()
		w.Pin = trust.PinRoot(w.Offline["metadata/1.root.json"])
		w.Import()
		w.AddCRL(1, 5)
		before := published(t, w)
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p := &w.Content.Policy
		p.Stage, p.RegisteredOnly, p.GatewayNames = trust.Development, true, []string{"gateway.test.example", "gw2.test.example"}
		p.SharedCredentials = &trust.SharedCredentials{CA: id, Until: w.Now.AddDate(0, 6, 0)}
		p.Logs = []trust.PolicyLog{{Origin: origin, Key: vkey(t, origin, key)}}
		*p = p.WithFormat()
		w.Content.Uptane = trust.UptaneRoots{Director: []byte(uptaneRoot), Image: []byte(uptaneRoot)}
		w.Rebuild()
		w.Import()
		signer, err := journal.NoteSigner(origin, key)
		if err != nil {
			t.Fatal(err)
		}
		note, err := journal.SignCheckpoint(journal.FormatCheckpoint(origin, 70000, journal.Hash{7}), signer)
		if err != nil {
			t.Fatal(err)
		}
		if err := offer(t, w, note, refresh); err != nil {
			t.Fatal(err)
		}
		w.AddCRL(2, 5, 6)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		put(t, dir+"/before", before)
		put(t, dir+"/after", published(t, w))
	}
	pin := pinOf(t, dir+"/before")
	before, err := trust.Open(os.DirFS(dir+"/before"), pin, trusttest.Start)
	if err != nil {
		t.Fatal(err)
	}
	if p := before.Policy(); p.Format != 2 || !p.Production() || p.RegisteredOnly || p.GatewayNames != nil {
		t.Errorf("%+v", p)
	}
	for how, open := range map[string]func() (*trust.View, error){
		"a new gateway": func() (*trust.View, error) { return trust.Open(os.DirFS(dir+"/after"), pin, trusttest.Start) },
		"one that had the earlier": func() (*trust.View, error) {
			return trust.OpenAfter(os.DirFS(dir+"/after"), before, pin, trusttest.Start)
		},
	} {
		v, err := open()
		if err != nil {
			t.Errorf("%s: %v", how, err)
			continue
		}
		p, issuing := v.Policy(), trust.IssuerID(v.Intermediates()[0])
		shared := p.SharedAt(trusttest.Start)
		if p.Format != 3 || p.Production() || !p.RegisteredOnly || strings.Join(p.GatewayNames, " ") != "gateway.test.example gw2.test.example" || len(p.CRLs) != 1 ||
			!shared.IssuedBy(issuing) || !shared.Until.Equal(trusttest.Start.AddDate(0, 6, 0)) || len(p.Logs) != 1 || p.Logs[0].Origin != origin {
			t.Errorf("%s: %+v", how, p)
		}
		if logs := v.Logs(); len(logs) != 1 || logs[0].Size != 70000 || logs[0].Root[0] != 7 {
			t.Errorf("%s: %+v", how, logs)
		}
		if u := v.Uptane(); string(u.Director) != uptaneRoot || string(u.Image) != uptaneRoot {
			t.Errorf("%s: %+v", how, u)
		}
		if _, err := trust.OpenAfter(os.DirFS(dir+"/before"), v, pin, trusttest.Start); !errors.Is(err, trust.ErrRollback) {
			t.Errorf("%s: back to format 2: %v", how, err)
		}
	}
}
