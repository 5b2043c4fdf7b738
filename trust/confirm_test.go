package trust_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// TestConfirm: a finished offline half is confirmed against the arguments that it was built from, the first and one that
// follows it, and against none that differ in one of them.
func TestConfirm(t *testing.T) {
	w := trusttest.New(t)
	confirm := func(prev *trust.Repository, c trust.Content, k trust.Keys, v trust.Validity, files trust.Files) (*trust.Repository, []trust.Signed, error) {
		return trust.Confirm(format.First, prev, c, k, v, files, w.Now)
	}
	first, signed, err := confirm(nil, w.Content, w.Keys, w.Validity, w.Offline)
	if err != nil {
		t.Fatal(err)
	}
	if len(signed) != 2 || len(signed[0].Signatures) != 3 || len(signed[1].Signatures) != 2 || signed[0].Path != "metadata/1.root.json" {
		t.Errorf("%d files were signed: %+v", len(signed), signed)
	}
	other := w.NewCA("Another Fleet Root", nil)
	for name, change := range map[string]func(*trust.Content, *trust.Keys, *trust.Validity){
		"the root's expiry": func(_ *trust.Content, _ *trust.Keys, v *trust.Validity) {
			v.RootExpires = v.RootExpires.Add(time.Second)
		},
		"the root's keys": func(_ *trust.Content, k *trust.Keys, _ *trust.Validity) {
			k.Root.Keys = append(k.Root.Keys[:2:2], w.Key().Public())
		},
		"its threshold": func(_ *trust.Content, k *trust.Keys, _ *trust.Validity) { k.Root.Threshold = 1 },
		"the targets' keys": func(_ *trust.Content, k *trust.Keys, _ *trust.Validity) {
			k.Targets.Keys = k.Targets.Keys[:1]
			k.Targets.Threshold = 1
		},
		"the snapshot key":  func(_ *trust.Content, k *trust.Keys, _ *trust.Validity) { k.Snapshot = trust.One(w.Key().Public()) },
		"the timestamp key": func(_ *trust.Content, k *trust.Keys, _ *trust.Validity) { k.Timestamp = trust.One(w.Key().Public()) },
		"the online key":    func(_ *trust.Content, k *trust.Keys, _ *trust.Validity) { k.CRL = trust.One(w.Key().Public()) },
		"the targets' expiry": func(_ *trust.Content, _ *trust.Keys, v *trust.Validity) {
			v.TargetsExpires = v.TargetsExpires.Add(time.Second)
		},
		"the anchors": func(c *trust.Content, _ *trust.Keys, _ *trust.Validity) {
			c.Anchors = append(c.Anchors[:1:1], other.Cert)
		},
		"the intermediates": func(c *trust.Content, _ *trust.Keys, _ *trust.Validity) { c.Intermediates = []*x509.Certificate{} },
		"the CRLs":          func(c *trust.Content, _ *trust.Keys, _ *trust.Validity) { c.CRLs = [][]byte{w.MakeCRL(w.Root, 2)} },
		"no CRL":            func(c *trust.Content, _ *trust.Keys, _ *trust.Validity) { c.CRLs = nil },
		"the policy": func(c *trust.Content, _ *trust.Keys, _ *trust.Validity) {
			c.Policy = trust.DefaultPolicy(c.Environment)
			c.Policy.RequireCRL = true
		},
		"the releases": func(c *trust.Content, _ *trust.Keys, _ *trust.Validity) {
			c.Releases = []trust.Release{{Issuer: trust.IssuerID(w.Root.Cert), Serial: big.NewInt(5)}}
		},
	} {
		c, k, v := w.Content, w.Keys, w.Validity
		change(&c, &k, &v)
		if _, _, err := confirm(nil, c, k, v, w.Offline); err == nil || advice.KindOf(err) != advice.Unverified || !strings.Contains(err.Error(), "not what was asked for") {
			t.Errorf("%s: %v", name, err)
		}
	}
	extra := maps.Clone(w.Offline)
	extra["targets/extra"] = []byte("x")
	if _, _, err := confirm(nil, w.Content, w.Keys, w.Validity, extra); err == nil || !strings.Contains(err.Error(), "targets/extra") {
		t.Errorf("one file more: %v", err)
	}
	for path := range w.Offline {
		changed := maps.Clone(w.Offline)
		changed[path] = bytes.Clone(changed[path])
		changed[path][len(changed[path])/2] ^= 1
		if _, _, err := confirm(nil, w.Content, w.Keys, w.Validity, changed); err == nil {
			t.Errorf("%s: a changed byte was confirmed", path)
		}
	}

	// What follows: the root stays as it is, the targets rise by one. A root that was signed anew without a reason is refused.
	before := w.Offline
	w.Content.CRLs = [][]byte{w.MakeCRL(w.Root, 2, 7)}
	w.Rebuild()
	if _, signed, err = confirm(first, w.Content, w.Keys, w.Validity, w.Offline); err != nil || len(signed) != 1 {
		t.Errorf("the one that follows: %v, %d files signed", err, len(signed))
	}
	if _, _, err := confirm(first, w.Content, w.Keys, w.Validity, before); err == nil {
		t.Error("the first one again was confirmed as the second")
	}
	if _, _, err := confirm(nil, w.Content, w.Keys, w.Validity, w.Offline); err == nil {
		t.Error("the second one was confirmed as the first")
	}
	renewed := w.Keys
	renewed.Timestamp = trust.One(w.Key().Public())
	signers := append([]crypto.Signer{}, w.Signers()...)
	files, err := trust.Build(first, w.Content, renewed, w.Validity, w.Now, signers...)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := confirm(first, w.Content, w.Keys, w.Validity, files); err == nil {
		t.Error("a root with another key was confirmed")
	}
	if _, signed, err = confirm(first, w.Content, renewed, w.Validity, files); err != nil || len(signed) != 2 || signed[0].Path != "metadata/2.root.json" {
		t.Errorf("a new root: %v, %+v", err, signed)
	}
}
