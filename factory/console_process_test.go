package factory_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
)

// TestConsoleServed: hanaperd serves the pages beside the API, or on a listener of their own, or not at all, as its configuration says, and to
// nobody without a certificate; and in each case EST's paths have one spelling, without redirections.
func TestConsoleServed(t *testing.T) {
	p := newPlant(t)
	bin, dir := programtest.Dir(t), t.TempDir()
	config, address := p.writeConfig(t, dir)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	own := programtest.FreeAddress(t)
	roots := x509.NewCertPool()
	roots.AddCert(p.operations.cert)
	olga := p.operator(t, "olga").tls()
	ask := func(url string, certs ...tls.Certificate) (int, string) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}, DisableKeepAlives: true}}
		a, err := client.Get(url)
		if err != nil {
			return 0, err.Error()
		}
		defer a.Body.Close()
		b, _ := io.ReadAll(a.Body)
		return a.StatusCode, string(b)
	}
	for _, c := range []struct{ config, pages, none, also string }{
		{"", "https://" + address + "/console/", "https://" + own + "/console/", "https://" + address + "/livez"},
		{"console: {listen: " + own + "}\n", "https://" + own + "/", "https://" + address + "/console/", "https://" + address + "/livez"},
		{"console: {enabled: false}\n", "", "https://" + address + "/console/", "https://" + address + "/livez"},
	} {
		if err := os.WriteFile(config, append([]byte(c.config), text...), 0o600); err != nil {
			t.Fatal(err)
		}
		d := start(t, bin, config)
		if c.pages != "" {
			if status, page := ask(c.pages, olga); status != 200 || !strings.Contains(page, "operator <strong>olga</strong>") {
				t.Errorf("%q: %d, %s", c.config, status, page)
			}
			if status, page := ask(c.pages); status != 0 {
				t.Errorf("%q: without a certificate: %d, %s", c.config, status, page)
			}
		}
		if status, page := ask(c.none, olga); status == 200 || strings.Contains(page, "<html") {
			t.Errorf("%q: %s: %d, %s", c.config, c.none, status, page)
		}
		if status, text := ask(c.also, olga); status != 200 {
			t.Errorf("%q: %s: %d, %s", c.config, c.also, status, text)
		}
		for _, path := range []string{"/.well-known/est//cacerts", "/.well-known/est/x/../cacerts", "/.well-known/est/./cacerts"} {
			if status, text := ask("https://"+address+path, olga); status != 404 {
				t.Errorf("%q: %s: %d, %s", c.config, path, status, text)
			}
		}
		d.stop()
	}
}
