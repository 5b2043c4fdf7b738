package route

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// held is a connection whose writes go out together.
type held struct {
	net.Conn
	hold bool
	out  bytes.Buffer
}

func (h *held) Write(p []byte) (int, error) {
	if !h.hold {
		return h.Conn.Write(p)
	}
	return h.out.Write(p)
}

// TestUnaskedInTLS: nor is what TLS has read ahead of the answer's end, in a record of its own or in the same one.
func TestUnaskedInTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	roots, certificates := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, server.TLS.Certificates
	const more = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nvictim"
	// One that is as long as what is read ahead of a body, which is read without a buffer from then on.
	long := "HTTP/1.1 200 OK\r\nContent-Length: 8192\r\n\r\nok"
	long += strings.Repeat("k", 8192-2)
	for name, records := range map[string][]string{
		"in a record of its own": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", more},
		"behind a long body":     {long + more},
	} {
		t.Run(name, func(t *testing.T) {
			up := newRaw(t, func(u *raw, n int64, c net.Conn, _ *bufio.Reader) {
				h := &held{Conn: c}
				s := tls.Server(h, &tls.Config{Certificates: certificates, DynamicRecordSizingDisabled: true})
				for r := bufio.NewReader(s); u.read(r) != ""; {
					h.hold = true
					for i, text := range records {
						if i > 0 && n > 1 {
							break
						}
						if n > 1 {
							text = strings.TrimSuffix(text, more)
						}
						io.WriteString(s, text)
					}
					h.hold = false
					h.Conn.Write(h.out.Bytes())
					h.out.Reset()
				}
			})
			f := newFront(t, []string{up.Addr().String()}, func(u *UpstreamConfig) {
				u.URL.Scheme, u.URL.Host, u.TLS = "https", "example.com", func() *tls.Config { return &tls.Config{RootCAs: roots} }
			})
			for i := range 3 {
				if got := seen(t, "GET", f.URL); !strings.Contains(got, `"ok`) {
					t.Errorf("%d: %.200s %v", i, got, f.fault())
				}
			}
			if n := up.conns.Load(); n != 2 {
				t.Errorf("%d connections, not 2", n)
			}
		})
	}
}
