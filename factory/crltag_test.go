package factory_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/hanaper/hanaper/ca"
)

// TestListIsSentOnce: who has the latest list, and says so by its tag, is not sent it again; a newer one is.
func TestListIsSentOnce(t *testing.T) {
	r := serve(t, newPlant(t))
	if err := r.service.FreshCRL(context.Background()); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(r.operations.cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{r.caller(t, ca.RolePublisher, "repo").tls()}}}}
	defer client.CloseIdleConnections()
	ask := func(tag string) (int, string, string) {
		req, _ := http.NewRequest(http.MethodGet, r.url+"/v1/crl", nil)
		req.Header.Set("If-None-Match", tag)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, _ := io.ReadAll(res.Body)
		return res.StatusCode, res.Header.Get("ETag"), string(data)
	}
	status, tag, list := ask("")
	if status != 200 || tag != fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(list))) {
		t.Fatalf("%d, %s", status, tag)
	}
	if status, again, data := ask(tag); status != 304 || again != tag || data != "" {
		t.Errorf("%d, %s, %d bytes", status, again, len(data))
	}
	if _, err := r.service.Revoke(context.Background(), "olga", revokeUnknown("0abcdef1")); err != nil {
		t.Fatal(err)
	}
	if err := r.service.FreshCRL(context.Background()); err != nil {
		t.Fatal(err)
	}
	if status, newer, data := ask(tag); status != 200 || newer == tag || data == list {
		t.Errorf("%d, %s", status, newer)
	}
}
