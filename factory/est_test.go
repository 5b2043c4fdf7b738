package factory_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
)

// derOf is the DER of a PEM.
func derOf(t testing.TB, text string) []byte {
	t.Helper()
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		t.Fatalf("no PEM: %q", text)
		return nil
	}
	return b.Bytes
}

// estBody is a device's request as EST has it.
func estBody(t testing.TB, q factory.EnrollRequest) []byte {
	return []byte(base64.StdEncoding.EncodeToString(derOf(t, q.CSR)))
}

// byOpenSSL is the certs-only message that openssl makes of these certificates, in base64.
func byOpenSSL(t testing.TB, certs ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"crl2pkcs7", "-nocrl", "-outform", "DER", "-out", "p7"}
	for i, c := range certs {
		name := fmt.Sprint("c", i)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-certfile", name)
	}
	must(t, dir, "openssl", args...)
	return base64.StdEncoding.EncodeToString([]byte(readFile(t, filepath.Join(dir, "p7"))))
}

// dial opens a connection of this caller.
func (r *running) dial(who identity) *tls.Conn {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.operations.cert)
	c, err := tls.Dial("tcp", strings.TrimPrefix(r.url, "https://"), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{who.tls()}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends octets as they stand, and gives the whole answer as it came.
func (r *running) exchange(who identity, request string) string {
	r.t.Helper()
	c := r.dial(who)
	if _, err := io.WriteString(c, request); err != nil {
		r.t.Fatal(err)
	}
	var seen bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &seen)), nil)
	if err != nil {
		r.t.Fatalf("%v after %q", err, seen.String())
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		r.t.Fatal(err)
	}
	return seen.String()
}

var dateLine = regexp.MustCompile(`\r\nDate: [^\r]*\r\n`)

// TestESTExchanges: each operation octet by octet, as RFC 7030's appendix A shows it with RFC 8951's base64. What is in the messages is made by openssl.
func TestESTExchanges(t *testing.T) {
	r := serve(t, newPlant(t))
	station, q := r.station(t, "line-1"), deviceRequest(t, newKey(t), "dev-1")
	a, _, err := r.client(station).Enroll(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	cas := []string{pemOf("CERTIFICATE", r.issuing.Raw), pemOf("CERTIFICATE", r.fleet.cert.Raw)}
	if bytes.Compare(r.issuing.Raw, r.fleet.cert.Raw) > 0 {
		cas[0], cas[1] = cas[1], cas[0]
	}
	csrText := string(estBody(t, q))
	fill := strings.NewReplacer("{CSR}", csrText, "{CSRLENGTH}", fmt.Sprint(len(csrText)), "{CACERTS}", byOpenSSL(t, cas...), "{ISSUED}", byOpenSSL(t, a.Certificate))
	files, err := filepath.Glob("testdata/est/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			request, want, _ := strings.Cut(fill.Replace(readFile(t, file)), "\n====\n")
			head, content, _ := strings.Cut(want, "\n\n")
			head = strings.ReplaceAll(strings.ReplaceAll(head, "{LENGTH}", fmt.Sprint(len(content))), "\n", "\r\n")
			requestHead, requestBody, _ := strings.Cut(request, "\n\n")
			got := r.exchange(station, strings.ReplaceAll(requestHead, "\n", "\r\n")+"\r\n\r\n"+requestBody)
			if got = dateLine.ReplaceAllString(got, "\r\nDate: {DATE}\r\n"); got != head+"\r\n\r\n"+content {
				t.Errorf("got\n%s\nwant\n%s\n\n%s", got, head, content)
			}
		})
	}
}

// TestESTRefusals: every kind of bad request is refused in words with a hint, and writes nothing.
func TestESTRefusals(t *testing.T) {
	r := serve(t, newPlant(t))
	station, operator := r.station(t, "line-1"), r.operator(t, "olga")
	good := estBody(t, deviceRequest(t, newKey(t), "dev-1"))
	bad, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"a.example"}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	half := len(good) / 2
	forged := derOf(t, deviceRequest(t, newKey(t), "dev-1").CSR)
	forged[len(forged)-1] ^= 1
	const p10, est = "application/pkcs10", "/.well-known/est/"
	for _, c := range []struct {
		name         string
		who          identity
		method, path string
		kind         string
		body         []byte
		status       int
	}{
		{"PEM", station, "POST", est + "simpleenroll", p10, []byte(deviceRequest(t, newKey(t), "dev-1").CSR), 400},
		{"DER", station, "POST", est + "simpleenroll", p10, forged, 400},
		{"nothing", station, "POST", est + "simpleenroll", p10, nil, 400},
		{"blanks", station, "POST", est + "simpleenroll", p10, []byte("\r\n \t"), 400},
		{"half of it", station, "POST", est + "simpleenroll", p10, good[:half-half%4], 422},
		{"two in a row", station, "POST", est + "simpleenroll", p10, slices.Concat([]byte("AA=="), good), 400},
		{"two in one base64", station, "POST", est + "simpleenroll", p10, []byte(base64.StdEncoding.EncodeToString(bytes.Repeat(derOf(t, deviceRequest(t, newKey(t), "dev-1").CSR), 2))), 422},
		{"forged", station, "POST", est + "simpleenroll", p10, []byte(base64.StdEncoding.EncodeToString(forged)), 422},
		{"a DNS name", station, "POST", est + "simpleenroll", p10, []byte(base64.StdEncoding.EncodeToString(bad)), 422},
		{"a certificate", station, "POST", est + "simpleenroll", p10, []byte(base64.StdEncoding.EncodeToString(r.issuing.Raw)), 422},
		{"too long", station, "POST", est + "simpleenroll", p10, bytes.Repeat([]byte("A"), 33<<10), 413},
		{"too long, in blanks", station, "POST", est + "simpleenroll", p10, bytes.Repeat([]byte("\n"), 33<<10), 413},
		{"a path in the name", station, "POST", est + "simpleenroll", p10, estOf(t, "x/../victim"), 422},
		{"no type", station, "POST", est + "simpleenroll", "", good, 415},
		{"JSON", station, "POST", est + "simpleenroll", "application/json", good, 415},
		{"CMC", station, "POST", est + "simpleenroll", "application/pkcs7-mime; smime-type=CMC-request", good, 415},
		{"a type with a broken parameter", station, "POST", est + "simpleenroll", "application/pkcs10; =", good, 415},
		{"GET", station, "GET", est + "simpleenroll", "", nil, 405},
		{"POST of cacerts", station, "POST", est + "cacerts", p10, good, 405},
		{"HEAD of csrattrs", station, "HEAD", est + "csrattrs", "", nil, 405},
		{"PUT", station, "PUT", est + "simplereenroll", p10, good, 405},
		{"an operator enrols", operator, "POST", est + "simpleenroll", p10, good, 403},
		{"an operator enrols again", operator, "POST", est + "simplereenroll", p10, good, 403},
		{"again, for a device that nobody knows", station, "POST", est + "simplereenroll", p10, good, 404},
		{"full CMC", station, "POST", est + "fullcmc", "application/pkcs7-mime; smime-type=CMC-request", good, 501},
		{"a key of the server's", station, "POST", est + "lot/serverkeygen", p10, good, 501},
		{"a query", station, "POST", est + "simpleenroll?x=1", p10, good, 404},
		{"another case", station, "POST", est + "SimpleEnroll", p10, good, 404},
		{"a slash too many", station, "POST", est + "simpleenroll/", p10, good, 404},
		{"two slashes", station, "POST", est + "/simpleenroll", p10, good, 404},
		{"dots", station, "POST", est + "../est/simpleenroll", p10, good, 404},
		{"dots as label", station, "POST", est + "../simpleenroll", p10, good, 404},
		{"dots behind a label", station, "POST", est + "lot/../simpleenroll", p10, good, 404},
		{"an escaped slash", station, "POST", est + "lot%2f1/simpleenroll", p10, good, 404},
		{"an escaped letter", station, "POST", est + "%6cot/simpleenroll", p10, good, 404},
		{"escaped dots", station, "POST", est + "%2e%2e/simpleenroll", p10, good, 404},
		{"an operation as label", station, "POST", est + "Cacerts/simpleenroll", p10, good, 404},
		{"two labels", station, "POST", est + "a/b/simpleenroll", p10, good, 404},
		{"no operation", station, "GET", est, "", nil, 404},
		{"nothing at all", station, "GET", strings.TrimSuffix(est, "/"), "", nil, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := r.rows()
			status, header, got, err := r.raw(c.who, c.method, c.path, c.kind, c.body)
			if err != nil {
				t.Fatal(err)
			}
			hinted := strings.Contains(got, "\nhint: ") || c.status == 403 || c.status == 413 || c.method == "HEAD"
			if status != c.status || header.Get("Content-Type") != "text/plain; charset=utf-8" || !hinted {
				t.Errorf("%d %v %q, want %d", status, header, got, c.status)
			}
			if after := r.rows(); after != before {
				t.Errorf("something was written: %s, was %s", after, before)
			}
		})
	}
	for name, request := range map[string]string{
		"compressed":       "Content-Type: application/pkcs10\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s",
		"two types":        "Content-Type: application/pkcs10\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s",
		"two lengths":      "Content-Type: application/pkcs10\r\nContent-Length: 4\r\nContent-Length: %d\r\n\r\n%s",
		"length and chunk": "Content-Type: application/pkcs10\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: %d\r\n\r\n%s",
	} {
		t.Run(name, func(t *testing.T) {
			before := r.rows()
			got := r.exchange(station, "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+fmt.Sprintf(request, len(good), good))
			if !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 5") {
				t.Errorf("it is answered %s", got)
			}
			if after := r.rows(); after != before {
				t.Errorf("something was written: %s, was %s", after, before)
			}
		})
	}
}

func estOf(t testing.TB, name string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(base64.StdEncoding.EncodeToString(der))
}

// TestESTSpellings: what RFC 8951 has receivers take is taken: blanks, any Content-Transfer-Encoding, parameters of the type, chunks.
func TestESTSpellings(t *testing.T) {
	r := serve(t, newPlant(t))
	station := r.station(t, "line-1")
	text := string(estBody(t, deviceRequest(t, newKey(t), "dev-1")))
	first := ""
	for name, c := range map[string][2]string{
		"one line":        {"Content-Type: application/pkcs10\r\nContent-Transfer-Encoding: base64\r\n", text},
		"lines":           {"Content-Type: application/pkcs10; charset=utf-8\r\n", strings.Join(strings.SplitAfterN(text, "", 40), "\r\n")},
		"binary, it says": {"Content-Type: APPLICATION/PKCS10\r\nContent-Transfer-Encoding: binary\r\n", "\t" + text + "\n\n"},
		"nonsense":        {"Content-Type: application/pkcs10\r\nContent-Transfer-Encoding: x-y; \"\r\n", text},
	} {
		got := r.exchange(station, fmt.Sprintf("POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s", c[0], len(c[1]), c[1]))
		_, answer, _ := strings.Cut(got, "\r\n\r\n")
		if first == "" {
			first = answer
		}
		if !strings.HasPrefix(got, "HTTP/1.1 200 ") || answer != first {
			t.Errorf("%s: %s", name, got)
		}
	}
	got := r.exchange(station, fmt.Sprintf("POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/pkcs10\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
		text[:1], len(text)-1, text[1:]))
	if _, answer, _ := strings.Cut(got, "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") || answer != first {
		t.Errorf("in chunks: %s", got)
	}
}

// TestESTWaits: while the token is away a request that is on record is answered 202 with Retry-After, again and again, and gets its one
// certificate once the token is back. One of which nothing is on record is answered 503.
func TestESTWaits(t *testing.T) {
	p := newPlant(t)
	flaky := &awayKey{Signer: p.key}
	var err error
	if p.issuer, err = ca.NewIssuer(p.issuing, flaky, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	r := serve(t, p)
	station, q := r.station(t, "line-1"), estBody(t, deviceRequest(t, newKey(t), "dev-1"))
	flaky.away.Store(true)
	for range 3 {
		status, header, got, err := r.raw(station, "POST", "/.well-known/est/lot-1/simpleenroll", "application/pkcs10", q)
		if err != nil || status != 202 || header.Get("Retry-After") == "" || !strings.Contains(got, "\nhint: ") || strings.Contains(got, "unplugged") {
			t.Fatal(status, header, got, err)
		}
	}
	rec, err := r.store.ByDevice(t.Context(), "dev-1")
	if err != nil || !rec.Open() {
		t.Fatal(rec, err)
	}
	flaky.away.Store(false)
	status, _, got, err := r.raw(station, "POST", "/.well-known/est/lot-1/simpleenroll", "application/pkcs10", q)
	if err != nil || status != 200 {
		t.Fatal(status, got, err)
	}
	if now, err := r.store.ByDevice(t.Context(), "dev-1"); err != nil || now.Open() || !bytes.Equal(now.Serial, rec.Serial) || got != byOpenSSL(t, pemOf("CERTIFICATE", now.Certificate)) {
		t.Errorf("%v: %+v", err, now)
	}
	r.store.Close()
	status, header, got, err := r.raw(station, "POST", "/.well-known/est/simpleenroll", "application/pkcs10", estBody(t, deviceRequest(t, newKey(t), "dev-2")))
	if err != nil || status != 503 || header.Get("Retry-After") == "" || !strings.Contains(got, "\nhint: ") {
		t.Error(status, header, got, err)
	}
}
