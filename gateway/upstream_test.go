package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/gateway"
)

// TestUpstreamIsThisGateways: what believes the identity header can be kept from everybody but the gateway, by a socket file
// or by the gateway's own certificate.
func TestUpstreamIsThisGateways(t *testing.T) {
	hello := func(t *testing.T, s *stand) {
		t.Helper()
		conn := dialRaw(t, s, s.fleet.Device(t, "device-1"))
		if status, answer := conn.send(t, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 || answer != "hello device-1" {
			t.Errorf("%d %q", status, answer)
		}
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("hello " + r.Header.Get("x-ats-device-uuid")))
	})
	t.Run("socket", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "devices.sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		up := &http.Server{Handler: answer}
		go func() { _ = up.Serve(l) }()
		t.Cleanup(func() { _ = up.Close() })
		hello(t, newStand(t, func(c *gateway.Config) { c.Upstream.URL = "unix:" + path }))
	})
	t.Run("certificate", func(t *testing.T) {
		up := httptest.NewUnstartedServer(answer)
		// The stand's own certificate serves as the client's too: the upstream asks for any, and knows this one.
		var seen []byte
		up.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			seen = raw[0]
			return nil
		}}
		up.StartTLS()
		t.Cleanup(up.Close)
		var s *stand
		ca := filepath.Join(t.TempDir(), "up.pem")
		writePEM(t, ca, up.Certificate().Raw)
		s = newStand(t, func(c *gateway.Config) {
			c.Upstream = gateway.UpstreamConfig{URL: up.URL, CA: ca, Certificate: "gateway.pem", Key: "gateway.key"}
		})
		hello(t, s)
		if string(seen) != string(s.server.Cert.Raw) {
			t.Error("the upstream saw another certificate")
		}
	})
}

func writePEM(t *testing.T, path string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
