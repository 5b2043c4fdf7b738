package factory_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
)

// TestSlowBody: a station that begins a body and never ends it holds up nobody else.
func TestSlowBody(t *testing.T) {
	r := serve(t, newPlant(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- factory.Serve(ctx, l, factory.NewHandler(r.service, r.callers, 1), r.callers.TLS(r.server.tls()), slog.New(slog.DiscardHandler))
	}()
	r.url = "https://" + l.Addr().String()
	roots := x509.NewCertPool()
	roots.AddCert(r.operations.cert)
	var slow []net.Conn
	for range 4 {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{r.station(t, "slow").tls()}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "POST /v1/enroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
		slow = append(slow, c)
	}
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	if _, _, err := r.client(r.station(t, "line-1")).Enroll(ctx, deviceRequest(t, newKey(t), "dev-1")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("an enrolment beside four slow ones took %v", took)
	}
	for _, c := range slow {
		c.Close()
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
