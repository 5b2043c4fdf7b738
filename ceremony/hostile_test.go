package ceremony

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// company is a company's CA that certifies another's key under a subject of raw bytes.
type company struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newCompany(t *testing.T) company {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o := company{key: key}
	o.cert = o.certify(t, key.Public(), pkix.Name{CommonName: "Company CA"}.ToRDNSequence(), -1)
	return o
}

func (o company) certify(t *testing.T, pub crypto.PublicKey, subject any, pathLen int) *x509.Certificate {
	t.Helper()
	raw, err := asn1.Marshal(subject)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	c := &x509.Certificate{SerialNumber: serial.SetBit(serial, 120, 1), RawSubject: raw, NotBefore: asserted.AddDate(0, 0, -1), NotAfter: asserted.AddDate(15, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: pathLen, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	parent := o.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, o.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// spelled is the name CN=text as a string of a kind.
func spelled(tag int, text string) any {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type rdnSET []attribute
	return []rdnSET{{{asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.RawValue{Tag: tag, Bytes: []byte(text)}}}}
}

const takenRoot = "- import-artefact: {key: root-key, token: roots}\n"

// TestOneNameOfAKey: the key of a CA is one issuer, however its name is spelled, and no second CA under another name; else its numbers
// would begin anew, and what it revoked would be forgotten.
func TestOneNameOfAKey(t *testing.T) {
	y := newYears(t)
	y.hold(wrapped + `
	- generate-key: {name: sub-key, token: roots, algorithm: P-256}
	- certificate: {name: sub, issuer: root, profile: subordinate-ca, key: sub-key, subject: {common_name: Sub}, path_length: 0, not_before: FROM, not_after: 2036-11-21T00:00:00Z}
	- crl: {name: root-crl, issuer: root, number: 1, this_update: FROM, next_update: UNTIL, revoked: [{certificate: sub, reason: superseded, at: FROM}]}`)
	y.inputs["wrap-1"] = "out-1/shares/wrap-1.json"
	const crl = "- crl: {name: crl-b, issuer: root-b, number: NUMBER, this_update: FROM, next_update: UNTIL}"
	one, two := strings.Replace(crl, "NUMBER", "1", 1), strings.Replace(crl, "NUMBER", "2", 1)
	for _, name := range []string{"The Root", "THE ROOT", "The  Root", "the root"} {
		again := takenRoot + "- root-certificate: {name: root-b, key: root-key, profile: fleet-root, subject: {common_name: " + name + "}, not_before: FROM, not_after: 2046-11-21T00:00:00Z}\n"
		y.refused("number 1 by "+name, again+one, "CER-026", "does not rise above 1")
		y.refused("number 2, which forgets, by "+name, again+two, "CA-0")
	}
	const other = "- root-certificate: {name: root-b, key: KEY, profile: operations-root, subject: {common_name: Operations}, not_before: FROM, not_after: 2036-11-21T00:00:00Z}\n"
	y.refused("a second CA of the key", takenRoot+strings.Replace(other, "KEY", "root-key", 1)+one, "CER-032", "CN=The Root", "CN=Operations")
	y.refused("a second CA of its restored key", "- restore-key: {name: k2, backup: root-backup, token: online, shares: wrap-1}\n"+strings.Replace(other, "KEY", "k2", 1)+one, "CER-032")
	y.refused("a CA of the key under another", takenRoot+`- generate-key: {name: new-key, token: online, algorithm: P-256}
	- root-certificate: {name: new, key: new-key, profile: fleet-root, subject: {common_name: New}, not_before: FROM, not_after: 2046-11-21T00:00:00Z}
	- certificate: {name: root-b, issuer: new, profile: subordinate-ca, key: root-key, subject: {common_name: Other}, path_length: 0, not_before: FROM, not_after: 2036-11-21T00:00:00Z}
	`+one, "CER-032")
	// A company's CA certifies the key, and writes its name in its own way.
	root, firm := y.certificate("out-1/artefacts/root.pem"), newCompany(t)
	y.put("company.pem", pemCertificate(firm.cert))
	y.inputs["company-pem"], y.inputs["root-pem"] = "company.pem", "crossed.pem"
	for _, c := range []struct {
		tag  int
		text string
		want string
	}{
		{asn1.TagUTF8String, "The Root", "CER-026"}, {asn1.TagPrintableString, "The Root", "CER-026"}, {asn1.TagPrintableString, "THE  ROOT", "CER-026"},
		{asn1.TagT61String, "The Root", "CER-026"}, {asn1.TagBMPString, "\x00T\x00h\x00e\x00 \x00R\x00o\x00o\x00t", "CER-026"}, {asn1.TagUTF8String, "Another", "CER-032"},
	} {
		y.put("crossed.pem", pemCertificate(firm.certify(t, root.PublicKey, spelled(c.tag, c.text), 1)))
		y.refused(fmt.Sprintf("imported under tag %d, %q", c.tag, c.text), takenRoot+"- import-certificate: {name: company, certificate: company-pem}\n- import-certificate: {name: root-b, certificate: root-pem, issuer: company, key: root-key}\n"+one, c.want)
	}
}

// TestCRLNumbersLeaveRoom: no slip of a digit uses up the numbers that are left.
func TestCRLNumbersLeaveRoom(t *testing.T) {
	y := newYears(t)
	crl := func(number string) string {
		return takenRoot + "- import-artefact: {certificate: root}\n- crl: {name: c-" + number + ", issuer: root, number: " + number + ", this_update: FROM, next_update: UNTIL}"
	}
	y.refused("the first and last number", firstRoot+"- crl: {name: c, issuer: root, number: 9223372036854775807, this_update: FROM, next_update: UNTIL}", "CER-033", "9223372036854775807")
	y.hold(firstRoot + "- crl: {name: c, issuer: root, number: 202611210900, this_update: FROM, next_update: UNTIL}")
	for _, number := range []string{"9223372036854775807", "1202611210901"} {
		y.refused("number "+number, crl(number), "CER-033", number)
	}
	if _, err := y.check(crl("1202611210900")); err != nil {
		t.Error(err)
	}
}

// TestTrustBeforehand: what the trust repository would refuse in the room, after CRLs were signed, check refuses, also where keys of
// earlier ceremonies will sign.
func TestTrustBeforehand(t *testing.T) {
	y := newYears(t)
	y.inputs = map[string]string{"snapshot": "trust-snapshot.pem", "timestamp": "trust-timestamp.pem", "crl": "trust-crl.pem"}
	y.hold(trusted)
	const stranger = "- generate-key: {name: s-key, token: roots, algorithm: P-256}\n- generate-key: {name: s-ca-key, token: roots, algorithm: P-256}\n" +
		"- root-certificate: {name: stranger, key: s-key, profile: fleet-root, subject: {common_name: Stranger}, not_before: FROM, not_after: 2030-11-21T00:00:00Z}\n" +
		"- certificate: {name: plant-9, issuer: stranger, profile: factory-ca, key: s-ca-key, subject: {common_name: Plant 9}, not_before: FROM, not_after: 2029-11-21T00:00:00Z}\n" +
		"- crl: {name: crl-9, issuer: stranger, number: 1, this_update: FROM, next_update: UNTIL}\n- crl: {name: crl-2"
	again := trustedAgain
	if _, err := y.check(again); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, old, new, want string }{
		{"an anchor twice", "anchors: [root]", "anchors: [root, root]", "stands twice"},
		{"an intermediate twice", "[plant-1, plant-2]", "[plant-1, plant-2, plant-2]", "stands twice"},
		{"an anchor as intermediate", "[plant-1, plant-2]", "[plant-1, plant-2, root]", "stands twice"},
		{"an intermediate as anchor", "anchors: [root]", "anchors: [root, plant-1]", "stands twice"},
		{"a CRL twice", "crls: [crl-2]", "crls: [crl-2, crl-2]", "two CRLs"},
		{"the last CRL besides", "- crl: {name: crl-2", "- import-artefact: {crl: crl-1}\n- crl: {name: crl-2", "two CRLs"},
		{"a CRL of nobody here", "- crl: {name: crl-2", stranger, "do not name"},
		{"an intermediate below no anchor", "- crl: {name: crl-2", stranger, "does not chain"},
		{"a kind of key that nobody has", "[P-256, RSA]", "[P-256, RSA, P-1]", "unknown"},
		{"a kind of key twice", "[P-256, RSA]", "[P-256, RSA, RSA]", "stands twice"},
		{"weak keys", "min_rsa_bits: 3072", "removes: [min_rsa_bits], min_rsa_bits: 1024", "min_rsa_bits is 1024"},
		{"a release of an unnamed CA", "- crl: {name: crl-2", stranger, "not named"},
	} {
		text := strings.Replace(again, c.old, c.new, 1)
		switch c.want {
		case "two CRLs":
			text = strings.Replace(text, "crls: [crl-2]", "crls: [crl-2, crl-1]", 1)
		case "do not name":
			text = strings.Replace(text, "crls: [crl-2]", "crls: [crl-2, crl-9]", 1)
		case "does not chain":
			text = strings.Replace(text, "[plant-1, plant-2]", "[plant-1, plant-2, plant-9]", 1)
		case "not named":
			text = strings.Replace(text, "crls: [crl-2]", "releases: [{issuer: stranger, serial: 4f0a}], crls: [crl-2]", 1)
		}
		y.refused(c.what, text, "CER-017", c.want)
	}
	// A second version in the same script would be compared with the last one that is signed, not with the first.
	second := again[strings.Index(again, "- trust-repository"):]
	y.refused("two versions", again+second, "CER-017", "before this one")
	y.refused("two versions, of which the second removes", again+strings.Replace(second, "[plant-1, plant-2]", "[plant-1], removes: [plant-2]", 1), "CER-017", "before this one")
	// What a version releases is said to those who review it.
	serial := fmt.Sprintf("%x", y.certificate("out-1/artefacts/plant-1.pem").SerialNumber)
	p, err := y.check(strings.Replace(again, "crls: [crl-2]", "releases: [{issuer: root, serial: "+serial+"}], crls: [crl-2]", 1))
	if err != nil {
		t.Fatal(err)
	}
	if remarks := strings.Join(p.Remarks(), "\n"); !strings.Contains(remarks, "RELEASES certificate plant-1, CN=Plant 1") {
		t.Errorf("of the release the reviewers read %s", remarks)
	}
}

// TestLeaversGetNoBackup: no new backup is made with shares of which one is a leaver's, be they from before or superseded.
func TestLeaversGetNoBackup(t *testing.T) {
	y := newYears(t)
	y.hold(wrapped)
	y.inputs["wrap-1"] = "out-1/shares/wrap-1.json"
	const another = "- generate-key: {name: another, token: roots, algorithm: P-256, class: backup}\n- backup-key: {name: another-backup, key: another, shares: wrap-1}"
	if _, err := y.check(another); err != nil {
		t.Error(err)
	}
	y.turnover()
	y.refused("a new key, with the old shares", another, "CER-034", "Officer 3")
	y.hold("- hold-secret: {name: wrap-2, token: roots, purpose: wrap, previous: wrap-1}\n- rewrap-backup: {name: root-backup-2, backup: root-backup, shares: wrap-1, new_shares: wrap-2, token: online}")
	y.rosterLine = `{{file "roster.json"}}`
	y.inputs["wrap-2"] = "out-2/shares/wrap-2.json"
	y.refused("wrapped back to the old shares", "- rewrap-backup: {name: root-backup-3, backup: root-backup-2, shares: wrap-2, new_shares: wrap-1, token: online}", "CER-034", "Officer 3")
	y.refused("restored, and backed up with the old shares", "- restore-key: {name: k2, backup: root-backup-2, token: online, shares: wrap-2, class: restored-backup}\n- backup-key: {name: b3, key: k2, shares: wrap-1}", "CER-034")
}

// TestRemovalsToldApart: a CA that has the name of a role is not removed by a word that says that the role's key is another.
func TestRemovalsToldApart(t *testing.T) {
	y := newYears(t)
	y.inputs = map[string]string{"snap": "trust-snapshot.pem", "clock": "trust-timestamp.pem", "revocations": "trust-crl.pem"}
	named := strings.NewReplacer("name: plant-2,", "name: timestamp,", "plant-2", "timestamp", "snapshot: snapshot", "snapshot: snap", "timestamp: timestamp", "timestamp: clock", "crl: crl,", "crl: revocations,")
	y.hold(named.Replace(trusted))
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	y.public("other.pem", other.Public())
	y.inputs["other"] = "other.pem"
	text := strings.Replace(named.Replace(trustedAgain), "timestamp: clock", "timestamp: other", 1)
	text = strings.Replace(text, "[plant-1, timestamp]", "[plant-1], removes: [REMOVES]", 1)
	digest := "sha256:" + hexSHA256(y.certificate("out-1/artefacts/timestamp.pem").Raw)
	y.refused("the role and the CA by one word", strings.Replace(text, "REMOVES", "timestamp", 1), "CER-030", digest)
	if _, err := y.check(strings.Replace(text, "REMOVES", `timestamp, "`+digest+`"`, 1)); err != nil {
		t.Error(err)
	}
}
