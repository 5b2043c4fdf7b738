package trust_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// TestOneStaleCRL: the CRL of one CA that ran out neither ends the view nor keeps the publisher from signing: its devices are refused, by the
// gateway, and those of other CAs go on.
func TestOneStaleCRL(t *testing.T) {
	w := trusttest.New(t)
	other := w.NewCA("Another Issuing CA", &w.Root)
	w.Content.Intermediates = append(w.Content.Intermediates, other.Cert)
	w.Rebuild()
	w.Import()
	w.AddCRL(1)
	before := w.View()
	stale, _ := before.CRL(w.Issuing.Cert)
	w.Now = stale.NextUpdate.Add(-time.Hour)
	// The root's CRL and that of the other CA are newer.
	w.Content.CRLs = [][]byte{w.MakeCRL(w.Root, 2)}
	w.Rebuild()
	w.Import()
	if err := w.Publish(func(p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(other, 1)) }); err != nil {
		t.Fatal(err)
	}
	w.Now = stale.NextUpdate.Add(time.Hour)
	if err := w.Publish((*trust.Publisher).Refresh); err != nil {
		t.Fatalf("nothing is signed any more: %v", err)
	}
	v, err := trust.OpenAfter(os.DirFS(w.Dir), before, w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Valid(w.Now); err != nil {
		t.Error(err)
	}
	if usable(v, w.Issuing.Cert, w.Now) {
		t.Error("a CRL that ran out is used")
	}
	if !usable(v, other.Cert, w.Now) {
		t.Error("a CRL that is current is not used")
	}
}

// TestClockAhead: what was signed while the clock was ahead is signed anew once it is right, and does not stay good for longer than it was given: who withholds
// what comes later would keep gateways with it for as long.
func TestClockAhead(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	right := w.Now
	w.Now = right.AddDate(0, 2, 0)
	if err := w.Publish((*trust.Publisher).Refresh); err != nil {
		t.Fatal(err)
	}
	ahead := w.View()
	w.Now = right.Add(time.Hour)
	if err := w.Publish((*trust.Publisher).Refresh); err != nil {
		t.Fatal(err)
	}
	v, err := trust.OpenAfter(os.DirFS(w.Dir), ahead, w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	before := trusttest.Snap(t, w.Dir)
	for name, days := range map[string]int{"timestamp.json": 1, fmt.Sprintf("%d.snapshot.json", v.Versions().Snapshot): 7, fmt.Sprintf("%d.crl.json", v.Versions().CRL): 7} {
		var doc struct{ Signed struct{ Expires time.Time } }
		if err := json.Unmarshal(before["metadata/"+name], &doc); err != nil {
			t.Fatal(name, err)
		}
		if doc.Signed.Expires.After(w.Now.AddDate(0, 0, days)) {
			t.Errorf("%s is good until %s, and was given %d days", name, doc.Signed.Expires, days)
		}
	}
	// Once.
	w.Now = w.Now.Add(-time.Minute)
	if err := w.Publish((*trust.Publisher).Refresh); err != nil {
		t.Fatal(err)
	}
	if after := trusttest.Snap(t, w.Dir); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Error("a clock that is a minute behind has it signed anew")
	}
}

// usable says what a gateway makes of the CRL of a CA.
func usable(v *trust.View, ca *x509.Certificate, now time.Time) bool {
	info, ok := v.CRL(ca)
	return ok && now.Before(v.Policy().CRLUntil(info))
}

// TestCRLRules: the officers may have a CRL used beyond its end, for a time or for good.
func TestCRLRules(t *testing.T) {
	w := trusttest.New(t)
	id := trust.IssuerID(w.Issuing.Cert).String()
	rules := func(list ...trust.CRLRule) {
		w.Content.Policy = trust.DefaultPolicy("test")
		w.Content.Policy.Format, w.Content.Policy.CRLs = 2, list
	}
	build := func() error {
		_, err := trust.Build(nil, w.Content, w.Keys, w.Validity, w.Now, w.Signers()...)
		return err
	}
	for _, c := range []struct {
		name string
		list []trust.CRLRule
		want string
	}{
		{"no rule in format 2", nil, "format 2"},
		{"no CA of this repository", []trust.CRLRule{{CA: strings.Repeat("ab", 32), GraceHours: 1}}, "is not named"},
		{"no id", []trust.CRLRule{{CA: "factory", GraceHours: 1}}, "no CA's id"},
		{"neither", []trust.CRLRule{{CA: id}}, "either"},
		{"both", []trust.CRLRule{{CA: id, GraceHours: 1, Frozen: true}}, "either"},
		{"too long", []trust.CRLRule{{CA: id, GraceHours: 24*90 + 1}}, "grace_hours"},
		{"less than nothing", []trust.CRLRule{{CA: id, GraceHours: -1}}, "grace_hours"},
		{"twice", []trust.CRLRule{{CA: id, GraceHours: 1}, {CA: id, GraceHours: 2}}, "twice"},
		{"frozen, and not there", []trust.CRLRule{{CA: id, Frozen: true}}, "has no CRL here"},
	} {
		rules(c.list...)
		if err := build(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	w.Content.Policy = trust.DefaultPolicy("test")
	w.Content.Policy.CRLs = []trust.CRLRule{{CA: id, GraceHours: 1}}
	if err := build(); err == nil || !strings.Contains(err.Error(), "format 1") {
		t.Errorf("rules in format 1: %v", err)
	}

	rules(trust.CRLRule{CA: id, GraceHours: 72})
	w.Rebuild()
	w.Import()
	w.AddCRL(1, 5)
	v := w.View()
	info, _ := v.CRL(w.Issuing.Cert)
	for _, c := range []struct {
		at     time.Time
		usable bool
	}{{info.NextUpdate.Add(-time.Second), true}, {info.NextUpdate, true}, {info.NextUpdate.Add(72*time.Hour - time.Second), true}, {info.NextUpdate.Add(72 * time.Hour), false}} {
		if is := usable(v, w.Issuing.Cert, c.at); is != c.usable {
			t.Errorf("at %v: %v", c.at, is)
		}
	}
	// What the officers' part does not name has no grace.
	if usable(v, w.Root.Cert, info.NextUpdate.Add(time.Hour)) {
		t.Error("the root's CRL has a grace")
	}

	// A CA whose key is gone: the officers carry its last CRL, which may have ended.
	last := w.MakeCRL(w.Issuing, 7, 5, 6)
	w.Now = w.Now.AddDate(0, 0, 40)
	rules(trust.CRLRule{CA: id, Frozen: true})
	w.Content.CRLs = [][]byte{w.MakeCRL(w.Root, 2), last}
	w.Rebuild()
	w.Import()
	v = w.View()
	if !usable(v, w.Issuing.Cert, w.Now.AddDate(20, 0, 0)) || !v.Revoked(w.Issuing.Cert, big.NewInt(6)) {
		t.Error("a frozen CRL is not used")
	}
	// Frozen is what was; more may be revoked, and nothing less.
	if err := w.Publish(func(p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, 8, 5, 6, 9)) }); err != nil {
		t.Errorf("a CRL that revokes more: %v", err)
	}
	if err := w.Publish(func(p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, 9, 9)) }); !errors.Is(err, trust.ErrLoosened) {
		t.Error(err)
	}
}
