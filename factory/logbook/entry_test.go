package logbook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/journal"
)

var testTime = time.Date(2026, 11, 26, 19, 0, 0, 0, time.UTC)

func golden() (Details, []byte, [32]byte) {
	salt := sha256.Sum256([]byte("a salt of an example"))
	certificate := []byte("the DER of an example's certificate")
	return Details{Index: 1234, Kind: Issue, Time: testTime, Issuer: sha256.Sum256([]byte("issuer")), Serial: []byte{0x5f, 0x3a, 0x01}, SPKI: sha256.Sum256([]byte("spki")),
		DeviceDigest: DeviceDigest(salt, "vin-0001"), RecordDigest: RecordDigest(salt, "station line-1", "")}, certificate, salt
}

// The bytes of layout 1, which stay; docs/spec/issuance-log.md shows the same.
func TestGoldenLeaf(t *testing.T) {
	d, certificate, _ := golden()
	leaf := d.Leaf(certificate)
	text := string(d.Text()) + "leaf " + hex.EncodeToString(leaf[:]) + "\n"
	want, err := os.ReadFile("testdata/leaf-1.golden")
	if err != nil || text != string(want) {
		t.Errorf("layout 1 has changed (%v):\n%s", err, text)
	}
	spec, err := os.ReadFile("../../docs/spec/issuance-log.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if !bytes.Contains(spec, []byte(line)) {
			t.Errorf("docs/spec/issuance-log.md lacks %q", line)
		}
	}
	again, err := ParseDetails(d.Text())
	if err != nil || again.LeafOf(leaf.Certificate()) != leaf || again.DeviceDigest != d.DeviceDigest {
		t.Errorf("%+v, %v", again, err)
	}
	if leaf.Kind() != Issue || leaf.Rest() != sha256.Sum256(d.Text()) || leaf.Certificate() != sha256.Sum256(certificate) {
		t.Error("the leaf's parts")
	}
	if bytes.Contains(d.Text(), []byte("vin")) {
		t.Error("the details name the device")
	}
}

func TestParseDetailsTable(t *testing.T) {
	d, _, _ := golden()
	good := string(d.Text())
	for name, bad := range map[string]string{
		"empty":           "",
		"newer":           strings.Replace(good, "/1\n", "/2\n", 1),
		"no last newline": strings.TrimSuffix(good, "\n"),
		"one line more":   good + "lot 7\n",
		"upper case":      strings.Replace(good, "5f3a01", "5F3A01", 1),
		"leading zero":    strings.Replace(good, "serial 5f", "serial 005f", 1),
		"unknown kind":    strings.Replace(good, "kind issue", "kind hold", 1),
		"local time":      strings.Replace(good, "19:00:00Z", "19:00:00+01:00", 1),
		"index with plus": strings.Replace(good, "index 1", "index +1", 1),
		"reason too big":  strings.Replace(good, "reason 0", "reason 256", 1),
		"lines moved":     strings.Replace(strings.Replace(good, "reason 0\n", "", 1), "kind", "reason 0\nkind", 1),
		"too long":        good + strings.Repeat("x", MaxDetails),
	} {
		if got, err := ParseDetails([]byte(bad)); !errors.Is(err, ErrDetails) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	none := Details{Index: 0, Kind: Scrap, Time: testTime, DeviceDigest: [32]byte{1}}
	if got, err := ParseDetails(none.Text()); err != nil || got.Serial != nil || got.Kind != Scrap {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParseLeaf(t *testing.T) {
	d, certificate, _ := golden()
	leaf := d.Leaf(certificate)
	if got, err := ParseLeaf(leaf[:]); err != nil || got != leaf {
		t.Error(err)
	}
	unknown := byte(slices.Max(Kinds())) + 1
	for _, bad := range [][]byte{nil, leaf[:64], append(leaf[:], 0), append([]byte{0}, leaf[1:]...), append([]byte{unknown}, leaf[1:]...)} {
		if _, err := ParseLeaf(bad); !errors.Is(err, ErrLeaf) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	d, certificate, salt := golden()
	leaf := d.Leaf(certificate)
	f.Add(d.Text())
	f.Add(leaf[:])
	f.Add(Proof{Index: 5, Hashes: []journal.Hash{{1}, {2}}, Checkpoint: signed(f, nil)}.Text())
	if data, err := MarshalOpenings([]Opening{{Details: string(d.Text()), DeviceID: "vin-0001", Salt: hex.EncodeToString(salt[:])}}); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := ParseDetails(data); err == nil && !bytes.Equal(d.Text(), data) {
			t.Fatal("details accepted, but written otherwise")
		}
		if l, err := ParseLeaf(data); err == nil && !bytes.Equal(l[:], data) {
			t.Fatal("leaf accepted, but written otherwise")
		}
		_, _ = ParseProof(data)
		_, _ = ParseOpenings("fuzz", data)
		_ = ValidPath(string(data))
	})
}
