package calendar

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

var now = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// authority makes certificates and CRLs for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root A"}, NotBefore: now, NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	a.cert = a.sign(tmpl, tmpl)
	return a
}

func (a *authority) sign(c, parent *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, a.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) leaf(name string, serial int64, until time.Time) *x509.Certificate {
	return a.sign(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: until}, a.cert)
}

func (a *authority) crl(number int64, until time.Time, serials ...int64) []byte {
	a.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: until}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func pemOf(kind string, ders ...[]byte) *fstest.MapFile {
	var b []byte
	for _, der := range ders {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return &fstest.MapFile{Data: b}
}

func metadata(kind string, version int, expires string) *fstest.MapFile {
	return &fstest.MapFile{Data: fmt.Appendf(nil, `{"signed":{"_type":%q,"version":%d,"expires":%q},"signatures":[]}`, kind, version, expires)}
}

// folder is a ceremony's, with what its earlier one left.
func folder(t *testing.T) fstest.MapFS {
	a := newAuthority(t)
	one, two := a.leaf("one", 100, now.AddDate(1, 0, 0)), a.leaf("two", 101, now.AddDate(0, 2, 0))
	return fstest.MapFS{
		"script.yaml":                           {Data: []byte("environment: demo\nsteps: []\n")},
		"roster.json":                           {Data: []byte(`{"type":"hanaper-roster/1"}`)},
		"artefacts/root.pem":                    pemOf("CERTIFICATE", a.cert.Raw),
		"artefacts/one.pem":                     pemOf("CERTIFICATE", one.Raw),
		"artefacts/one.chain.pem":               pemOf("CERTIFICATE", one.Raw, a.cert.Raw),
		"artefacts/two.crt":                     {Data: two.Raw},
		"artefacts/key.pub.pem":                 pemOf("PUBLIC KEY", one.RawSubjectPublicKeyInfo),
		"artefacts/root.crl":                    {Data: a.crl(2, now.AddDate(0, 6, 0), 101)},
		"earlier/artefacts/root.crl":            pemOf("X509 CRL", a.crl(1, now.AddDate(0, 1, 0))),
		"earlier/uptane/image/1.root.json":      metadata("Root", 1, "2026-12-01T00:00:00Z"),
		"uptane/image/2.root.json":              metadata("Root", 2, "2027-12-01T00:00:00Z"),
		"uptane/image/root.json":                metadata("Root", 2, "2027-12-01T00:00:00Z"),
		"trust/metadata/3.officers-crl.json":    metadata("targets", 3, "2027-11-30T00:00:00Z"),
		"trust/targets/x.policy.json":           {Data: []byte(`{"environment":"demo"}`)},
		"rehearsed/leaf.pem.rehearsal":          pemOf("CERTIFICATE", a.leaf("rehearsed", 7, now).Raw),
		"trust/targets/empty.intermediates.pem": {Data: nil},
	}
}

func TestRead(t *testing.T) {
	list, err := Read(folder(t), "out")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Read(folder(t), "copy")
	if err != nil || len(again) != len(list) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range Merge(list) {
		got = append(got, strings.TrimSpace(e.Expires.Format("2006-01-02 ")+e.Kind+" "+e.What+" in "+e.File+" "+e.Note))
		if e.Environment != "demo" || e.UID == "" {
			t.Errorf("%+v", e)
		}
	}
	want := []string{
		"2027-01-21 certificate certificate CN=two, serial 65 in out/artefacts/two.crt revoked",
		`2027-05-21 crl CRL 2 of CN=Root A in out/artefacts/root.crl`,
		"2027-11-21 certificate certificate CN=one, serial 64 in out/artefacts/one.pem",
		"2027-11-30 metadata trust repository, officers-crl version 3 in out/trust/metadata/3.officers-crl.json",
		"2027-12-01 metadata Uptane image repository, root version 2 in out/uptane/image/root.json",
		`2036-11-21 certificate root certificate CN=Root A, serial 1 in out/artefacts/root.pem`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(Within(Merge(list), now, 90*24*time.Hour)); n != 1 {
		t.Errorf("%d within 90 days", n)
	}
	if n := len(Within(Merge(list), now.AddDate(1, 0, 0), 0)); n != 3 {
		t.Errorf("%d are over a year later", n)
	}
}

// TestReadDamaged: what cannot be read as what its name says is refused, and named.
func TestReadDamaged(t *testing.T) {
	for name, file := range map[string]*fstest.MapFile{
		"a/x.pem":  {Data: []byte("nothing")},
		"a/y.pem":  pemOf("CERTIFICATE", []byte("nothing")),
		"a/x.crt":  {Data: []byte{0x30, 0x80}},
		"a/x.crl":  {Data: []byte("nothing")},
		"a/x.json": {Data: []byte(`{"signed":`)},
		"a/y.json": metadata("root", 1, "tomorrow"),
	} {
		_, err := Read(fstest.MapFS{name: file}, "dir")
		if err == nil || !strings.Contains(err.Error(), "dir: "+name) || advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(os.DirFS(filepath.Join(t.TempDir(), "none")), "none"); err == nil {
		t.Error("a folder that is not there was read")
	}
}

func TestCards(t *testing.T) {
	config := quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: now.AddDate(0, -1, 0)}
	var keys []ed25519.PrivateKey
	for i := range 3 {
		_, key, _ := ed25519.GenerateKey(rand.Reader)
		keys = append(keys, key)
		config.Officers = append(config.Officers, quorum.Officer{Name: fmt.Sprintf("Officer %d", i), Role: quorum.RoleOfficer, SigningKey: key.Public(), Scheme: quorum.Ed25519})
	}
	r, err := quorum.NewRoster(config)
	if err != nil {
		t.Fatal(err)
	}
	check, err := quorum.CheckCard(r, keys[1], nil, now.AddDate(0, 0, -10))
	if err != nil {
		t.Fatal(err)
	}
	year := 365 * 24 * time.Hour
	cards, err := quorum.Cards(r, [][]byte{check}, now, year)
	if err != nil {
		t.Fatal(err)
	}
	list := Cards(r, cards, year)
	if len(list) != 3 || list[0].Note != "never checked" || !list[0].Expires.Equal(config.Issued.Add(year)) ||
		list[1].Note != "" || !list[1].Expires.Equal(now.AddDate(0, 0, -10).Add(year)) || list[0].UID == list[2].UID {
		t.Errorf("%+v", list)
	}
}

// TestICS has the calendar read by another program, and holds its lines to RFC 5545.
func TestICS(t *testing.T) {
	list, err := Read(folder(t), "out")
	if err != nil {
		t.Fatal(err)
	}
	all := append(Merge(list), Entry{Expires: now, Kind: "card", What: "card check of a, b; c: " + strings.Repeat("Łódź – 漢字 ", 20) + "\x00\xff\r\nEND:VCALENDAR", UID: uid("x"), Note: "never checked", Version: 1 << 40})
	var b bytes.Buffer
	if err := ICS(&b, all, now); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") || strings.Count(text, "\r") != strings.Count(text, "\r\n") || !strings.HasSuffix(text, "END:VCALENDAR\r\n") {
		t.Error("lines do not end with CR LF")
	}
	for _, line := range strings.Split(text, "\r\n") {
		if len(line) > 75 || strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r == 0xfffd }) {
			t.Errorf("line %q", line)
		}
	}
	if strings.Contains(text, "CN=two") {
		t.Error("a revoked certificate is in the calendar")
	}
	file := filepath.Join(t.TempDir(), "x.ics")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/usr/bin/python3", "-c", `
import icalendar, sys
c = icalendar.Calendar.from_ical(open(sys.argv[1], "rb").read())
for e in c.walk("VEVENT"):
    a = e.walk("VALARM")
    assert len(a) == 1 and e["DTSTAMP"].dt.isoformat() == "2026-11-21T09:00:00+00:00" and not e.errors, e
    print(e["UID"], e["DTSTART"].dt.isoformat(), e["SUMMARY"].replace("\n", "|"), sep="\t")
`, file).CombinedOutput()
	if err != nil {
		t.Fatalf("icalendar (apt-get install python3-icalendar): %v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(all)-1 {
		t.Errorf("%d events of %d", len(lines), len(all)-1)
	}
	for _, e := range all[1:5] {
		if want := e.UID + "\t" + e.Expires.Format("2006-01-02T15:04:05+00:00") + "\tExpires: " + e.What; !strings.Contains(string(out), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if !strings.Contains(string(out), "card check of a, b; c: "+strings.Repeat("Łódź – 漢字 ", 20)+" ?") {
		t.Errorf("long text was changed:\n%s", out)
	}
	if got := escape("a\\b,c;d\ne"); got != `a\\b\,c\;d\ne` {
		t.Errorf("escaped %q", got)
	}
	b.Reset()
	if err := ICS(&b, nil, now); err != nil || strings.Count(b.String(), "\r\n") != 5 {
		t.Errorf("an empty calendar: %q", b.String())
	}
}

// endless is a file system in which each folder holds one more.
type endless struct{}

func (endless) Open(name string) (fs.File, error) {
	return fstest.MapFS{path.Join(name, "a"): {Mode: fs.ModeDir}}.Open(name)
}

// TestReadEndless: a file system that leads back into itself, or never ends, is refused. No disk gives one; the reader
// takes any fs.FS.
func TestReadEndless(t *testing.T) {
	for name, folder := range map[string]fs.FS{
		"an empty name":       fstest.MapFS{"earlier/////a/root.crl": {Data: []byte("x")}},
		"a name of one dot":   fstest.MapFS{"earlier/./root.crl": {Data: []byte("x")}},
		"a name of two dots":  fstest.MapFS{"earlier/../root.crl": {Data: []byte("x")}},
		"a name at the front": fstest.MapFS{"/root.crl": {Data: []byte("x")}},
		"no end":              endless{},
	} {
		list, err := Read(folder, "dir")
		if err == nil || len(list) > 0 || !strings.HasPrefix(err.Error(), "dir: ") {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	long := &fstest.MapFile{Data: bytes.Repeat([]byte("# no end\n"), maxScript)}
	if list, err := Read(fstest.MapFS{"script.yaml": long, "a/root.json": metadata("root", 1, "2027-12-01T00:00:00Z")}, "dir"); err != nil || len(list) != 1 || list[0].Environment != "" {
		t.Errorf("a script without end: %v, %v", list, err)
	}
}

// FuzzRead: no file makes Read panic, and what it finds has a date and a place.
func FuzzRead(f *testing.F) {
	for name, file := range folder(&testing.T{}) {
		f.Add(name, file.Data)
	}
	f.Add("x.pem", []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Add("1.root.json", []byte(`{"signed":null}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if !fs.ValidPath(name) {
			t.Skip() // TestReadEndless has what no file system gives
		}
		list, err := Read(fstest.MapFS{name: {Data: data}}, "dir")
		if err != nil {
			return
		}
		var b bytes.Buffer
		for _, e := range Merge(list, list) {
			if e.Kind == "" || e.UID == "" || e.File == "" {
				t.Errorf("%+v", e)
			}
		}
		if err := ICS(&b, list, now); err != nil {
			t.Error(err)
		}
	})
}
