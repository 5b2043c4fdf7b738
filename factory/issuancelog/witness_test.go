package issuancelog

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/witness/persistence/inmemory"
	stock "github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/journal"
)

// witnessKey is a witness's key, made by stock tools: the signer, and the verifier key of type 4.
func witnessKey(t testing.TB, name string) (fnote.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = fnote.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func withWitness(t testing.TB) func(*logbook.PolicyConfig) {
	_, vkey := witnessKey(t, "witness.example")
	return func(c *logbook.PolicyConfig) { c.Witnesses = append(c.Witnesses, vkey) }
}

// peer is transparency-dev's witness on loopback. It can be switched off.
type peer struct {
	name, vkey, url string
	off             atomic.Bool
	asked           atomic.Int64
}

func newPeer(t testing.TB, name string) *peer {
	t.Helper()
	s, vkey := witnessKey(t, name)
	v, err := note.NewVerifier(policy(t).Key())
	if err != nil {
		t.Fatal(err)
	}
	w, err := stock.New(context.Background(), stock.Opts{Persistence: inmemory.New(), Signers: []note.Signer{s},
		VerifierForLog: func(_ context.Context, o string) (note.Verifier, bool, error) { return v, o == origin, nil }})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{name: name, vkey: vkey}
	h := stock.NewHTTPHandler(w)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if p.off.Load() || r.URL.Path != "/prefix/add-checkpoint" {
			http.Error(w, "off", http.StatusServiceUnavailable)
			return
		}
		h.AddCheckpoint(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL + "/prefix/"
	return p
}

// witnessed is a configuration that demands this many cosignatures of these witnesses.
func witnessed(t testing.TB, rec *testRecord, dir string, demand int, peers ...*peer) Config {
	c := config(t, rec, dir)
	c.Policy = policy(t, func(p *logbook.PolicyConfig) {
		p.Cosignatures = demand
		for _, one := range peers {
			p.Witnesses = append(p.Witnesses, one.vkey)
			c.Witnesses = append(c.Witnesses, WitnessConfig{one.name, one.url})
		}
	})
	return c
}

// TestWitness: checkpoints are cosigned by transparency-dev's witness, and formats verifies it. Without the cosignatures that
// are demanded nothing is handed out, the log says why and goes on being written; they come when the witness is back.
func TestWitness(t *testing.T) {
	t.Parallel()
	rec, dir := &testRecord{size: 5}, filepath.Join(t.TempDir(), "log")
	one, two := newPeer(t, "one.example"), newPeer(t, "two.example")
	c := witnessed(t, rec, dir, 2, one, two)
	r := run(t, c)
	r.signed(5)
	if got, err := c.Policy.Verify(rec.note); err != nil || len(got.Cosigned) != 2 || time.Since(got.Cosigned["one.example"]) > time.Minute {
		t.Fatalf("%+v, %v", got, err)
	}
	logVerifier, err := note.NewVerifier(c.Policy.Key())
	if err != nil {
		t.Fatal(err)
	}
	judge, err := fnote.NewVerifierForCosignatureV1(mustPlain(t, one.vkey))
	if err != nil {
		t.Fatal(err)
	}
	if cp, _, n, err := flog.ParseCheckpoint(rec.note, origin, logVerifier, judge); err != nil || cp.Size != 5 || len(n.Sigs) != 2 {
		t.Errorf("formats: %+v, %v", cp, err)
	}
	before := rec.note
	two.off.Store(true)
	rec.add(5)
	s := r.until("the fault", func(s State) bool { return s.Fault != "" && s.Size == 10 })
	if !strings.Contains(s.Fault, "1 of 2 demanded") || s.Signed != 5 {
		t.Errorf("%+v", s)
	}
	if a := r.Latest(context.Background(), 0); string(a.Note) != string(before) {
		t.Error("a checkpoint without its cosignatures was handed out")
	}
	two.off.Store(false)
	r.signed(10)
	if _, err := audit(t, rec, dir, before); err != nil {
		t.Fatal(err)
	}
	// Started anew, the log does not know what the witnesses have seen; they say so.
	r.stop()
	r = run(t, c)
	rec.add(300)
	r.signed(310)
}

// Cosignatures that nobody demands are added where they come, and hold nothing up.
func TestWitnessNotDemanded(t *testing.T) {
	t.Parallel()
	rec, dir := &testRecord{size: 5}, filepath.Join(t.TempDir(), "log")
	one := newPeer(t, "one.example")
	one.off.Store(true)
	c := witnessed(t, rec, dir, 0, one)
	r := run(t, c)
	r.signed(5)
	one.off.Store(false)
	rec.add(5)
	r.signed(10)
	if got, err := c.Policy.Verify(rec.note); err != nil || len(got.Cosigned) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestWitnessNotices: record and folder put back together, or both changed, agree with each other. The witness knows better.
func TestWitnessNotices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(*testRecord){
		"cut back":           func(r *testRecord) { r.size = 300 },
		"cut back and grown": func(r *testRecord) { r.size, r.other = 900, map[uint64]Event{400: changed(400)} },
		"forked":             func(r *testRecord) { r.size, r.other = 710, map[uint64]Event{5: changed(5)} },
		"forked, same size":  func(r *testRecord) { r.size, r.other = 700, map[uint64]Event{699: changed(699)} },
		"two events changed places": func(r *testRecord) {
			a, b := event(7), event(8)
			a.Index, b.Index = 8, 7
			r.other = map[uint64]Event{7: b, 8: a}
		},
		"one event of another device": func(r *testRecord) { e := event(3); e.DeviceID = "vin-x"; r.other = map[uint64]Event{3: e} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec, dir := &testRecord{size: 700}, filepath.Join(t.TempDir(), "log")
			one := newPeer(t, "one.example")
			r := run(t, witnessed(t, rec, dir, 1, one))
			r.signed(700)
			r.stop()
			bad := &testRecord{size: 700}
			c(bad)
			r = run(t, witnessed(t, bad, filepath.Join(t.TempDir(), "log"), 0, one))
			r.until("the fault", func(s State) bool { return strings.Contains(s.Fault, ErrWitness.Error()) })
			r.stop()
			if len(bad.puts) != 0 {
				t.Error("a checkpoint was kept that the witness refused")
			}
		})
	}
}

func changed(i uint64) Event {
	e := event(i + 5000)
	e.Index = i
	return e
}

// mustPlain gives the type-1 verifier key that formats makes a cosignature verifier of.
func mustPlain(t testing.TB, vkey string) string {
	t.Helper()
	w, err := journal.ParseWitnessKey(vkey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil {
		t.Fatal(err)
	}
	plain, err := note.NewEd25519VerifierKey(w.Name(), raw[1:])
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// What a witness may answer, and what becomes of it.
func TestWitnessAnswers(t *testing.T) {
	rec, dir := lay(t, 20)
	_, vkey := witnessKey(t, "bad.example")
	other, _ := witnessKey(t, "bad.example")
	sizes := 0
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"another key": {func(w http.ResponseWriter, r *http.Request) {
			signed, err := note.Sign(&note.Note{Text: "x\n1\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"}, other)
			if err == nil {
				_, _ = w.Write(signed[strings.Index(string(signed), "\n\n")+2:])
			}
		}, nil},
		"nothing":         {func(http.ResponseWriter, *http.Request) {}, nil},
		"nonsense":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("— bad.example AAAA\n")) }, nil},
		"409 and nothing": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(409) }, nil},
		"always another size": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(409)
			sizes++
			fmt.Fprintln(w, sizes%20)
		}, nil},
		"a redirect":   {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, nil},
		"a later size": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(409); _, _ = w.Write([]byte("21\n")) }, ErrWitness},
		"a fork":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(422) }, ErrWitness},
	} {
		server := httptest.NewServer(c.answer)
		p := policy(t, func(p *logbook.PolicyConfig) { p.Witnesses = []string{vkey} })
		list, err := newWitnesses(p, []WitnessConfig{{"bad.example", server.URL}})
		if err != nil {
			t.Fatal(err)
		}
		line, err := list[0].cosign(context.Background(), logbook.Folder(dir), rec.note, 20)
		if err == nil || line != nil || errors.Is(err, ErrWitness) != (c.want != nil) {
			t.Errorf("%s: %q, %v", name, line, err)
		}
		server.Close()
	}
}
