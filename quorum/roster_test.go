package quorum

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
)

func TestRosterRoundTrip(t *testing.T) {
	list := people(t)
	r := newRoster(t, 3, list)
	again, err := ParseRoster(r.Data())
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest() != r.Digest() || again.Digest() != Sum(r.Data()) || again.Threshold() != 3 || again.Epoch() != 1 ||
		again.Environment() != "production" || !again.Issued().Equal(issued) || len(again.Officers()) != 7 {
		t.Errorf("read otherwise: %+v", again)
	}
	o, ok := again.Officer(list[4].KeyID)
	if !ok || o.Name != "Emmy" || o.Scheme != RSAPKCS1SHA256 || o.Decryption != HPKEP256 {
		t.Errorf("got %+v", o)
	}
	if o, ok := again.Named("EMMY"); !ok || o.KeyID != list[4].KeyID {
		t.Error("not found by name")
	}
	s, o, err := again.Signer(keys()["RSA"][3])
	if err != nil || s.Scheme() != RSAPKCS1SHA256 || o.Name != "Emmy" {
		t.Errorf("signer: %v, %v", o.Name, err)
	}
	if _, _, err := again.Signer(keys()["Ed25519"][5]); err == nil {
		t.Error("a stranger's key accepted")
	}
}

// TestRosterIsNoEnrolment: who names an officer's enrolment in the place of the roster is told so.
func TestRosterIsNoEnrolment(t *testing.T) {
	_, err := ParseRoster([]byte(`{"payloadType":"application/vnd.hanaper.officer+json","payload":"e30=","signatures":[]}`))
	if err == nil || !strings.Contains(err.Error(), "an envelope of type") || !strings.Contains(advice.Hint(err), "name the roster itself") || advice.KindOf(err) != advice.Usage {
		t.Errorf("%v, hint %q", err, advice.Hint(err))
	}
}

func TestRosterRefusals(t *testing.T) {
	list := people(t)
	base := func() []Officer { return officersOf(list) }
	spki := func(k any) string {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(der)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	config := func(threshold int, f func([]Officer) []Officer) func() error {
		return func() error {
			_, err := NewRoster(RosterConfig{Environment: "production", Threshold: threshold, Issued: issued, Officers: f(base())})
			return err
		}
	}
	good := string(newRoster(t, 2, list).Data())
	edit := func(old, new string) func() error {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the roster", old)
		}
		return func() error { _, err := ParseRoster([]byte(strings.Replace(good, old, new, 1))); return err }
	}
	for name, v := range map[string]struct {
		f    func() error
		says string
	}{
		"threshold 0":         {config(0, func(o []Officer) []Officer { return o }), "threshold 0"},
		"threshold above N":   {config(6, func(o []Officer) []Officer { return o }), "5 people have the role officer"},
		"no officers":         {config(1, func([]Officer) []Officer { return nil }), "0 people"},
		"too many":            {config(1, func(o []Officer) []Officer { return append(make([]Officer, 0), repeat(o, 70)...) }), ""},
		"same name":           {config(1, func(o []Officer) []Officer { o[1].Name = "ADA"; return o }), "two people are named"},
		"same signing key":    {config(1, func(o []Officer) []Officer { o[5].SigningKey = o[0].SigningKey; return o }), "stands twice"},
		"same decryption key": {config(1, func(o []Officer) []Officer { o[4].DecryptionKey = o[0].DecryptionKey; return o }), "stands twice"},
		"same RSA modulus": {config(1, func(o []Officer) []Officer {
			k := *o[3].SigningKey.(*rsa.PublicKey)
			k.E = 257
			o[1].SigningKey, o[1].Scheme = &k, o[3].Scheme
			return o
		}), "stands twice"},
		"same point, other sign": {config(1, func(o []Officer) []Officer {
			k := bytes.Clone(o[0].SigningKey.(ed25519.PublicKey))
			k[31] ^= 0x80
			o[1].SigningKey, o[1].Scheme = ed25519.PublicKey(k), Ed25519
			return o
		}), "stands twice"},
		"anybody's key": {config(1, func(o []Officer) []Officer {
			k := make(ed25519.PublicKey, 32)
			k[0] = 1
			o[0].SigningKey = k
			return o
		}), "small order"},
		"a factor is known": {config(1, func(o []Officer) []Officer {
			k := *o[3].SigningKey.(*rsa.PublicKey)
			k.N = new(big.Int).Sub(k.N, new(big.Int).Mod(k.N, big.NewInt(509)))
			o[3].SigningKey = &k
			return o
		}), "small factor"},
		"another's key":        {config(1, func(o []Officer) []Officer { o[0].DecryptionKey = o[1].SigningKey; return o }), "stands twice"},
		"one key for both":     {config(1, func(o []Officer) []Officer { o[1].DecryptionKey, o[1].Decryption = o[1].SigningKey, HPKEP256; return o }), "two keys"},
		"scheme of other key":  {config(1, func(o []Officer) []Officer { o[0].Scheme = ECDSAP256SHA256; return o }), "does not fit"},
		"decryption of other":  {config(1, func(o []Officer) []Officer { o[0].Decryption = OAEPSHA256; return o }), "does not fit"},
		"decryption, no key":   {config(1, func(o []Officer) []Officer { o[5].Decryption = HPKEP256; return o }), "go together"},
		"Ed25519 decrypts":     {config(1, func(o []Officer) []Officer { o[0].DecryptionKey = o[6].SigningKey; return o }), "cannot decrypt"},
		"empty name":           {config(1, func(o []Officer) []Officer { o[0].Name = ""; return o }), "name"},
		"name with a newline":  {config(1, func(o []Officer) []Officer { o[0].Name = "Ada\n"; return o }), "name"},
		"name as path":         {config(1, func(o []Officer) []Officer { o[0].Name = "../Ada"; return o }), "name"},
		"name not ASCII":       {config(1, func(o []Officer) []Officer { o[0].Name = "Аda"; return o }), "name"},
		"unknown role":         {config(1, func(o []Officer) []Officer { o[0].Role = "boss"; return o }), "role"},
		"P-224":                {edit(spki(list[1].SigningKey), spki(p224.Public())), "P-256 or P-384"},
		"RSA 1024":             {edit(spki(list[3].SigningKey), spki(small.Public())), "1024 bits"},
		"unknown key":          {edit(`"epoch"`, `"epok"`), "epok"},
		"key twice":            {edit(`"epoch": 1,`, `"epoch": 1, "epoch": 1,`), "twice"},
		"epoch 0":              {edit(`"epoch": 1`, `"epoch": 0`), "epoch 0"},
		"epoch 2, no previous": {edit(`"epoch": 1`, `"epoch": 2`), "epoch 2"},
		"negative epoch":       {edit(`"epoch": 1`, `"epoch": -1`), ""},
		"type":                 {edit(rosterType, "hanaper-roster/2"), "hanaper-roster/2"},
		"time with a zone":     {edit("2026-11-21T09:00:00Z", "2026-11-21T09:00:00+00:00"), "RFC 3339"},
		"environment":          {edit(`"production"`, `"Production"`), "environment"},
		"spaces":               {edit(`  "epoch"`, ` "epoch"`), "canonical"},
		"order":                {edit("\"epoch\": 1,\n  \"threshold\": 2,", "\"threshold\": 2,\n  \"epoch\": 1,"), "canonical"},
		"escape":               {edit(`"Ada"`, `"\u0041da"`), "canonical"},
		"trailing data":        {func() error { _, err := ParseRoster([]byte(good + "{}")); return err }, ""},
		"no last newline":      {func() error { _, err := ParseRoster([]byte(good[:len(good)-1])); return err }, "canonical"},
		"huge":                 {func() error { _, err := ParseRoster(make([]byte, MaxDocument+1)); return err }, "larger"},
		"empty":                {func() error { _, err := ParseRoster(nil); return err }, ""},
		"key not base64":       {edit(spki(list[0].SigningKey), "%%%"), "base64"},
		"key not SPKI":         {edit(spki(list[0].SigningKey), "AAAA"), "SubjectPublicKeyInfo"},
	} {
		if err := v.f(); err == nil || !strings.Contains(err.Error(), v.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func repeat(o []Officer, n int) []Officer {
	var out []Officer
	for len(out) < n {
		out = append(out, o...)
	}
	return out
}

// TestSuccessionOneThingWrong: a roster that a whole quorum approved, with one thing in it that does not follow from the one before.
func TestSuccessionOneThingWrong(t *testing.T) {
	list := people(t)
	old := newRoster(t, 2, list)
	next, err := NewRoster(RosterConfig{Environment: "production", Threshold: 2, Issued: issued.Add(time.Hour), Previous: old, Officers: officersOf(list[1:])})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		says   string
		change func(*rosterJSON)
	}{
		{"", func(*rosterJSON) {}},
		{"the one before is of", func(j *rosterJSON) { j.Environment = "staging" }},
		{"epoch 3 cannot follow epoch 1", func(j *rosterJSON) { j.Epoch = 3 }},
		{"it replaces roster", func(j *rosterJSON) { other := Sum([]byte("another")); j.Previous = &other }},
		{"issued before", func(j *rosterJSON) { j.Issued = issued.Add(-time.Second).UTC().Format(time.RFC3339) }},
	} {
		var j rosterJSON
		if err := json.Unmarshal(next.Data(), &j); err != nil {
			t.Fatal(err)
		}
		c.change(&j)
		data, err := encode(j)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := ParseRoster(data)
		if err != nil {
			t.Fatalf("%q: %v", c.says, err)
		}
		var approvals [][]byte
		for _, p := range list[:2] {
			env, err := ApproveRoster(changed, p.sign)
			if err != nil {
				t.Fatal(err)
			}
			approvals = append(approvals, env)
		}
		got, err := old.Succeed(data, approvals)
		if c.says == "" && err != nil || c.says != "" && (err == nil || got != nil || !strings.Contains(err.Error(), c.says) || advice.KindOf(err) != advice.Unverified) {
			t.Errorf("%q: %v", c.says, err)
		}
	}
}

func TestSuccession(t *testing.T) {
	list := people(t)
	old := newRoster(t, 3, list)
	next, err := NewRoster(RosterConfig{Environment: "production", Threshold: 2, Issued: issued.Add(time.Hour), Previous: old, Officers: officersOf(list[2:])})
	if err != nil {
		t.Fatal(err)
	}
	approveBy := func(r *Roster, who ...person) [][]byte {
		var out [][]byte
		for _, p := range who {
			env, err := ApproveRoster(r, p.sign)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, env)
		}
		return out
	}
	subsets(5, 3, func(idx []int) {
		got, err := OpenRoster(old.Digest(), RosterFile{Data: old.Data()}, RosterFile{Data: next.Data(), Approvals: approveBy(next, pick(list, idx)...)})
		if err != nil || got.Digest() != next.Digest() || got.Previous() != Digest(old.Digest()) || got.Epoch() != 2 {
			t.Errorf("%v: %v", idx, err)
		}
	})
	subsets(5, 2, func(idx []int) {
		if _, err := old.Succeed(next.Data(), approveBy(next, pick(list, idx)...)); advice.KindOf(err) != advice.Refused {
			t.Errorf("%v: %v", idx, err)
		}
	})
	other, err := NewRoster(RosterConfig{Environment: "production", Threshold: 1, Issued: issued.Add(time.Hour), Previous: old, Officers: officersOf(list[2:])})
	if err != nil {
		t.Fatal(err)
	}
	third, err := NewRoster(RosterConfig{Environment: "production", Threshold: 1, Issued: issued.Add(time.Hour), Previous: next, Officers: officersOf(list[2:])})
	if err != nil {
		t.Fatal(err)
	}
	staging, err := NewRoster(RosterConfig{Environment: "staging", Threshold: 1, Issued: issued, Officers: officersOf(list)})
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"one officer thrice": func() error {
			_, err := old.Succeed(next.Data(), approveBy(next, list[0], list[0], list[0]))
			return err
		},
		"witness and auditor": func() error {
			_, err := old.Succeed(next.Data(), approveBy(next, list[0], list[5], list[6]))
			return err
		},
		"another roster approved": func() error {
			_, err := old.Succeed(next.Data(), approveBy(other, list[0], list[1], list[2]))
			return err
		},
		"skipped epoch":     func() error { _, err := old.Succeed(third.Data(), approveBy(third, list[:3]...)); return err },
		"other environment": func() error { _, err := old.Succeed(staging.Data(), approveBy(staging, list[:3]...)); return err },
		"itself":            func() error { _, err := old.Succeed(old.Data(), approveBy(old, list[:3]...)); return err },
		"of another line":   func() error { _, err := next.Succeed(other.Data(), approveBy(other, list[2:4]...)); return err },
		"anchor":            func() error { _, err := OpenRoster(next.Digest(), RosterFile{Data: old.Data()}); return err },
		"nothing":           func() error { _, err := OpenRoster(next.Digest()); return err },
		"made for another environment": func() error {
			_, err := NewRoster(RosterConfig{Environment: "staging", Threshold: 1, Issued: issued, Previous: old, Officers: officersOf(list)})
			return err
		},
		"made before the old one": func() error {
			_, err := NewRoster(RosterConfig{Environment: "production", Threshold: 1, Issued: issued.Add(-time.Hour), Previous: old, Officers: officersOf(list)})
			return err
		},
	} {
		if err := f(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := OpenRoster(next.Digest(), RosterFile{Data: old.Data()}); !errors.Is(err, ErrAnchor) || advice.KindOf(err) != advice.Unverified {
		t.Errorf("anchor: %v", err)
	}
}

func TestEveryChangedRosterByte(t *testing.T) {
	r := newRoster(t, 1, people(t)[:1])
	for i := range r.data {
		changed := r.Data()
		changed[i] ^= 1
		if _, err := OpenRoster(r.Digest(), RosterFile{Data: changed}); err == nil {
			t.Fatalf("byte %d: accepted", i)
		}
	}
}

func TestEnrolmentRefusals(t *testing.T) {
	list := people(t)
	env, err := Enrol(list[0].Officer, list[0].sign)
	if err != nil {
		t.Fatal(err)
	}
	for i := range env {
		changed := bytes.Clone(env)
		changed[i] ^= 1
		if _, err := ParseEnrolment(changed); err == nil {
			t.Fatalf("byte %d: accepted", i)
		}
	}
	// Somebody else's signature under it.
	_, payload, err := parseEnvelope(env, EnrolmentPayload)
	if err != nil {
		t.Fatal(err)
	}
	other, err := SignDSSE(EnrolmentPayload, payload, list[1].sign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseEnrolment(other); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
	if _, err := ParseEnrolment(approve(t, statement(t, newRoster(t, 1, list)), list[0])[0]); err == nil {
		t.Error("an approval taken for an enrolment")
	}
	for _, name := range []string{"", "a/b", " a", "a  b", "é"} {
		o := list[0].Officer
		o.Name = name
		if _, err := Enrol(o, list[0].sign); err == nil {
			t.Errorf("name %q accepted", name)
		}
	}
}

func FuzzRoster(f *testing.F) {
	f.Add(newRoster(f, 2, people(f)).Data())
	env, err := Enrol(people(f)[0].Officer, people(f)[0].sign)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(env)
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseRoster(data); err == nil {
			again, err := NewRoster(RosterConfig{Environment: r.environment, Threshold: r.threshold, Issued: r.issued, Officers: r.officers})
			if r.epoch == 1 && (err != nil || !bytes.Equal(again.data, data)) {
				t.Fatalf("accepted, but written otherwise: %v", err)
			}
		}
		_, _ = ParseEnrolment(data)
	})
}
