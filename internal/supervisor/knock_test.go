package supervisor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// door is a listener whose accept loop hangs, as in a deadlock, while its lock is held.
type door struct {
	net.Listener
	lock sync.Mutex
}

func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	d.lock.Lock()
	defer d.lock.Unlock()
	return c, err
}

// serveTLS serves, to callers with a certificate alone, what is behind the door, and writes what net/http says of it to log.
func serveTLS(t *testing.T, log slog.Handler) *door {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: l}
	srv := &http.Server{ErrorLog: slog.NewLogLogger(log, slog.LevelWarn), ReadHeaderTimeout: time.Minute}
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
	done := make(chan error)
	go func() { done <- srv.Serve(tls.NewListener(d, conf)) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return d
}

// words is a log that is read while it is written.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// TestListenerHangs: a service whose store answers and whose accept loop hangs gives no sign of life; when the loop goes on it does again.
func TestListenerHangs(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	got := listen(t, name)
	s := &Supervisor{address: &net.UnixAddr{Net: "unixgram", Name: name}, watchdog: 600 * time.Millisecond}
	var k Knocker
	d := serveTLS(t, k.Hush(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	defer func() { stop(); <-ended }()
	go func() {
		defer close(ended)
		s.Watch(ctx, slog.New(slog.DiscardHandler), func(ctx context.Context) (string, error) { return "the store answers", k.Answers(ctx, d.Addr()) })
	}()
	want(t, got, "WATCHDOG=1\nSTATUS=the store answers")
	d.lock.Lock()
	for m := range got {
		if strings.HasPrefix(m, "STATUS=no sign of life: the listener at 127.0.0.1:") {
			break
		}
	}
	if m := <-got; !strings.HasPrefix(m, "STATUS=no sign of life: ") {
		t.Errorf("while the accept loop hangs %q is told", m)
	}
	d.lock.Unlock()
	for m := range got {
		if m == "WATCHDOG=1\nSTATUS=the store answers" {
			break
		}
	}
}

// TestKnock: what no listener answers is an error; a refusal is an answer, and of those that it broke off itself nothing is said, of others it is.
func TestKnock(t *testing.T) {
	var said words
	var k Knocker
	d := serveTLS(t, k.Hush(slog.NewTextHandler(&said, nil)))
	for range 3 {
		if err := k.Answers(t.Context(), d.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tls.Dial("tcp", d.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Fatal("TLS 1.2 is spoken")
	}
	for !strings.Contains(said.String(), "handshake error") {
		time.Sleep(time.Millisecond)
	}
	if strings.Count(said.String(), "\n") != 1 {
		t.Errorf("the log says\n%s", said.String())
	}
	// One without TLS, at a socket file.
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	clear := &http.Server{ReadHeaderTimeout: time.Minute}
	go func() { _ = clear.Serve(l) }()
	if err := new(Knocker).Answers(t.Context(), l.Addr()); err != nil {
		t.Errorf("of a listener without TLS: %v", err)
	}
	clear.Close()
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	gone := l.Addr()
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := k.Answers(ctx, gone); err == nil || !strings.Contains(err.Error(), "does not answer") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a listener that is gone: %v", err)
	}
	if len(k.from) != 3 {
		t.Errorf("%d addresses are remembered", len(k.from))
	}
}
