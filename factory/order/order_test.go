package order

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/quorum"
)

var issued = time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)

func good() *Order {
	return &Order{Format: Format, Lot: "brakes-48", Quantity: 10, IDs: IDs{Pattern: "brake-[0-9]{3}"}, Profile: "device", Environment: "plant7", Stations: []string{"line-3"},
		HardwareIDs: []string{"imx8"}, From: issued.Add(time.Hour), Until: issued.Add(48 * time.Hour), Issued: issued, Replaces: strings.Repeat("ab", 32), Note: "first batch"}
}

// TestGolden: an order that this release wrote is read for ever, and its digest stays.
func TestGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/order-1.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := good().Encode()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n%s", err, got)
	}
	o, err := Parse(want)
	if err != nil || fmt.Sprint(*o) != fmt.Sprint(*good()) {
		t.Errorf("%+v, %v", o, err)
	}
	if d := fmt.Sprintf("%x", Digest(want)); d != "ac73115cb5a4a35cce1c66f595b14543f6bcbefae75bdb431d293cd559185b65" {
		t.Errorf("its digest is %s", d)
	}
	// A draft in YAML says the same.
	y, err := Read("order.yaml", []byte("format: hanaper-order/1\nlot: brakes-48\nquantity: 10\nids: {pattern: \"brake-[0-9]{3}\"}\nprofile: device\nenvironment: plant7\nstations: [line-3]\nhardware_ids: [imx8]\n"+
		"from: 2026-11-27T07:00:00Z\nuntil: 2026-11-29T06:00:00Z\nissued: 2026-11-27T06:00:00Z\nreplaces: \""+strings.Repeat("ab", 32)+"\"\nnote: first batch\n"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := y.Encode(); err != nil || !bytes.Equal(again, want) {
		t.Errorf("%v\n%s", err, again)
	}
}

// TestRefusals: what is no order.
func TestRefusals(t *testing.T) {
	for name, change := range map[string]func(*Order){
		"format": func(o *Order) { o.Format = "hanaper-order/2" }, "no lot": func(o *Order) { o.Lot = "" }, "lot": func(o *Order) { o.Lot = "a b" }, "long lot": func(o *Order) { o.Lot = strings.Repeat("a", 65) },
		"none": func(o *Order) { o.Quantity = 0 }, "fewer than none": func(o *Order) { o.Quantity = -1 }, "too many": func(o *Order) { o.Quantity = MaxQuantity + 1 },
		"pattern": func(o *Order) { o.IDs.Pattern = "(" }, "back reference": func(o *Order) { o.IDs.Pattern = `(a)\1` }, "long pattern": func(o *Order) { o.IDs.Pattern = strings.Repeat("a", maxPattern+1) },
		"twice": func(o *Order) { o.Quantity, o.IDs.List = 1, []string{"VIN", "vin"} }, "empty id": func(o *Order) { o.Quantity, o.IDs.List = 1, []string{""} },
		"control in id": func(o *Order) { o.Quantity, o.IDs.List = 1, []string{"a\nb"} }, "more than listed": func(o *Order) { o.IDs.List = []string{"a"} },
		"station": func(o *Order) { o.Stations = []string{"a\nb"} }, "hardware": func(o *Order) { o.HardwareIDs = []string{""} }, "profile": func(o *Order) { o.Profile = "../x" + "\x00" }, "environment": func(o *Order) { o.Environment = "a b" },
		"no time": func(o *Order) { o.Issued = time.Time{} }, "fraction": func(o *Order) { o.Issued = issued.Add(time.Millisecond) }, "zone": func(o *Order) { o.Issued = issued.In(time.FixedZone("", 3600)) },
		"ends before it begins": func(o *Order) { o.Until = o.From }, "ended when it was made": func(o *Order) { o.From, o.Until = time.Time{}, o.Issued },
		"replaces": func(o *Order) { o.Replaces = "ab" }, "upper case": func(o *Order) { o.Replaces = strings.Repeat("AB", 32) }, "certificate": func(o *Order) { o.Certificate = "x" }, "note": func(o *Order) { o.Note = "a\nb" },
		"long note": func(o *Order) { o.Note = strings.Repeat("a", maxNote+1) },
	} {
		o := good()
		change(o)
		if _, err := o.Encode(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	text, err := good().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"an unknown key": strings.Replace(string(text), `"lot"`, `"x": 1, "lot"`, 1), "a key twice": strings.Replace(string(text), `"lot"`, `"Lot": "x", "lot"`, 1),
		"something behind it": string(text) + "{}", "a number as text": strings.Replace(string(text), `"quantity": 10`, `"quantity": "10"`, 1), "nothing": "", "no object": "[]", "null": "null",
	} {
		if o, err := Parse([]byte(data)); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func key(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestByOfficers: so many distinct officers of the roster, and nobody else.
func TestByOfficers(t *testing.T) {
	keys := []crypto.Signer{key(t), key(t), key(t), key(t)}
	var members []quorum.Officer
	for i, name := range []string{"ada", "bo", "cy", "wilma"} {
		s, err := quorum.NewSigner(keys[i], "")
		if err != nil {
			t.Fatal(err)
		}
		o := quorum.Officer{Name: name, Role: quorum.RoleOfficer, SigningKey: keys[i].Public(), Scheme: s.Scheme()}
		if name == "wilma" {
			o.Role = quorum.RoleWitness
		}
		members = append(members, o)
	}
	roster, err := quorum.NewRoster(quorum.RosterConfig{Environment: "plant7", Threshold: 2, Issued: issued, Officers: members})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(o *Order, by ...crypto.Signer) []byte {
		t.Helper()
		data, err := o.Encode()
		for _, k := range by {
			if err == nil {
				data, err = Sign(data, k)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	s, err := ByOfficers(sign(good(), keys[0], keys[2], keys[0]), roster, 2)
	if err != nil || fmt.Sprint(s.By) != "[officer ada officer cy]" || s.Order.Lot != "brakes-48" {
		t.Fatalf("%+v, %v", s, err)
	}
	elsewhere, second := good(), good()
	elsewhere.Environment, second.Note = "plant8", "another"
	joined, err := quorum.JoinDSSE(PayloadType, sign(good(), keys[0]), sign(good(), keys[1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ByOfficers(joined, roster, 2); err != nil {
		t.Error(err)
	}
	if _, err := quorum.JoinDSSE(PayloadType, sign(good(), keys[0]), sign(second, keys[1])); err == nil {
		t.Error("signatures of two orders were joined")
	}
	for name, env := range map[string][]byte{
		"one": sign(good(), keys[0]), "one twice": sign(good(), keys[0], keys[0]), "an officer and a witness": sign(good(), keys[0], keys[3]), "an officer and a stranger": sign(good(), keys[0], key(t)),
		"another environment": sign(elsewhere, keys[0], keys[1]), "nobody": sign(good()),
	} {
		if s, err := ByOfficers(env, roster, 2); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestByOperator: the certificate that the order names is judged first, and its key alone signs.
func TestByOperator(t *testing.T) {
	olga, other := key(t), key(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "olga"}, NotBefore: issued, NotAfter: issued.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, olga.Public(), olga)
	if err != nil {
		t.Fatal(err)
	}
	o := good()
	o.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	data, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	env, err := Sign(data, olga)
	if err != nil {
		t.Fatal(err)
	}
	who := func(chain []*x509.Certificate) (string, error) { return chain[0].Subject.CommonName, nil }
	if s, err := ByOperator(env, who); err != nil || fmt.Sprint(s.By) != "[operator olga]" || s.Digest != Digest(data) {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := Sign(data, other); err == nil {
		t.Error("another key signed")
	}
	if _, err := Sign(env, olga); err == nil {
		t.Error("signed twice")
	}
	no := errors.New("unknown")
	if _, err := ByOperator(env, func([]*x509.Certificate) (string, error) { return "", no }); !errors.Is(err, no) {
		t.Error(err)
	}
	forged, err := quorum.SignDSSE(PayloadType, data, other)
	if err != nil {
		t.Fatal(err)
	}
	both, err := quorum.JoinDSSE(PayloadType, env, forged)
	if err != nil {
		t.Fatal(err)
	}
	approval, err := quorum.SignDSSE(quorum.ApprovalPayload, data, olga)
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string][]byte{"another key": forged, "two keys": both, "another payload type": approval, "not signed": data} {
		if s, err := ByOperator(env, who); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// FuzzParse: whatever is read is written again as something that is read the same.
func FuzzParse(f *testing.F) {
	seed, err := good().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"format":"hanaper-order/1","lot":"l","quantity":1,"issued":"2026-11-27T06:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Parse(data)
		if err != nil {
			return
		}
		again, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if o2, err := Parse(again); err != nil || fmt.Sprint(*o2) != fmt.Sprint(*o) {
			t.Fatalf("%+v, %+v, %v", o, o2, err)
		}
		_, _ = Unverified(data)
	})
}
