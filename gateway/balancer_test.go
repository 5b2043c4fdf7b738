package gateway_test

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
)

const signature2 = "\r\n\r\n\x00\r\nQUIT\n"

// header2 is a header of version 2, as the specification draws it.
func header2(command, family byte, body string) string {
	return signature2 + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
}

const (
	from4 = "\xc6\x33\x64\x07\xc0\x00\x02\x01\xd9\x03\x20\xfb"                                                                                                 // 198.51.100.7:55555 to 192.0.2.1:8443
	from6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xd9\x03\x20\xfb" // [2001:db8::7]:55555
)

// throughBalancer sends header, and then a device's request.
func (s *stand) throughBalancer(d *fleettest.Entity, header string) (status int, err error) {
	raw, err := net.Dial("tcp", s.addr)
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(raw, header); err != nil {
		return 0, err
	}
	conn := tls.Client(raw, s.tlsConfig(d))
	if err := conn.Handshake(); err != nil {
		return 0, err
	}
	client := http.Client{Transport: &http.Transport{DialTLS: func(string, string) (net.Conn, error) { return conn, nil }}}
	resp, err := client.Get("https://" + s.addr + "/x")
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// TestBalancer: the address that a balancer names is the device's, in limits and log lines; a header that is not exactly one is refused, and so is who is
// no balancer.
func TestBalancer(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.ProxyProtocol, c.Log.Requests = []string{"127.0.0.1"}, true })
	d := s.fleet.Device(t, "device-1")
	for header, peer := range map[string]string{
		"PROXY TCP4 198.51.100.7 192.0.2.1 55551 8443\r\n":       "198.51.100.7:55551",
		"PROXY TCP6 2001:db8::7 2001:db8::1 55552 8443\r\n":      "[2001:db8::7]:55552",
		header2(0x21, 0x11, from4):                               "198.51.100.7:55555",
		header2(0x21, 0x21, from6):                               "[2001:db8::7]:55555",
		header2(0x21, 0x11, from4+"\x04\x00\x02ab\x05\x00\x01a"): "198.51.100.7:55555",
		// Not about a connection of others: the balancer's own.
		"PROXY UNKNOWN\r\n":                       "127.0.0.1:",
		"PROXY UNKNOWN ffff::1 what ever 1 2\r\n": "127.0.0.1:",
		header2(0x20, 0x00, ""):                   "127.0.0.1:",
		header2(0x20, 0x11, from4):                "127.0.0.1:",
	} {
		if status, err := s.throughBalancer(d, header); err != nil || status != 200 {
			t.Errorf("%q: %d %v", header, status, err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
		for end := time.Now().Add(10 * time.Second); !strings.Contains(lines[len(lines)-1], "msg=request") && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			lines = strings.Split(strings.TrimSpace(s.log.String()), "\n")
		}
		if last := lines[len(lines)-1]; !strings.Contains(last, "peer="+peer) && !strings.Contains(last, `peer="`+peer) {
			t.Errorf("%q: %s", header, last)
		}
	}
	asked := len(s.requests())
	refused := []string{
		"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PROXY\r\n", "PROXY TCP4 198.51.100.7 192.0.2.1 55551 8443\n", "PROXY TCP4 198.51.100.7 192.0.2.1 55551\r\n", "PROXY TCP4 198.51.100.7 192.0.2.1 55551 8443 \r\n",
		"PROXY  TCP4 198.51.100.7 192.0.2.1 55551 8443\r\n", "proxy TCP4 198.51.100.7 192.0.2.1 55551 8443\r\n", "PROXY TCP4 198.51.100.7 192.0.2.1 65536 8443\r\n", "PROXY TCP4 198.51.100.7 192.0.2.1 -1 8443\r\n", "PROXY TCP4 198.51.100.7 192.0.2.1 055 8443\r\n",
		"PROXY TCP4 198.51.100.007 192.0.2.1 5 8443\r\n", "PROXY TCP4 2001:db8::7 2001:db8::1 5 8443\r\n", "PROXY TCP6 198.51.100.7 192.0.2.1 5 8443\r\n", "PROXY TCP6 fe80::1%lo fe80::2 5 8443\r\n", "PROXY UDP4 198.51.100.7 192.0.2.1 5 8443\r\n", "PROXY TCP4 example.com 192.0.2.1 5 8443\r\n",
		"PROXY TCP4 0.0.0.0 192.0.2.1 5 8443\r\n", "PROXY TCP4 224.0.0.1 192.0.2.1 5 8443\r\n", "PROXY TCP6 :: 2001:db8::1 5 8443\r\n",
		"PROXY TCP4 198.51.100.7 192.0.2.1 55551 " + strings.Repeat("1", 100) + "\r\n", "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n",
		header2(0x31, 0x11, from4), header2(0x11, 0x11, from4), header2(0x22, 0x11, from4), header2(0x21, 0x12, from4), header2(0x21, 0x13, from4), header2(0x21, 0x41, from4), header2(0x21, 0x00, ""), header2(0x21, 0x31, strings.Repeat("a", 216)),
		header2(0x21, 0x11, from4[:11]), header2(0x21, 0x21, from4), header2(0x21, 0x11, from4+"\x04"), header2(0x21, 0x11, from4+"\x04\x00\x09a"), header2(0x21, 0x11, from4+strings.Repeat("\x04\x00\x00", 2000)),
		header2(0x21, 0x11, "\x00\x00\x00\x00"+from4[4:]), signature2[:11] + "x" + header2(0x21, 0x11, from4)[12:],
		"PROXY TCP4 198.51.100.7 192.0.2.1 55551 8443\r\nPROXY TCP4 198.51.100.8 192.0.2.1 55551 8443\r\n",
		header2(0x21, 0x11, from4) + header2(0x21, 0x11, from4),
	}
	for _, header := range refused {
		if status, err := s.throughBalancer(d, header); err == nil {
			t.Errorf("%q: %d", header, status)
		}
	}
	if len(s.requests()) != asked {
		t.Error("a refused one reached the upstream")
	}
	// The two headers that are followed by another begin well: what follows is no TLS.
	if want := fmt.Sprintf(`{reason="proxy-header",stage="handshake"} %d`, len(refused)-2); !strings.Contains(s.metrics(), want) {
		t.Errorf("not %s:\n%s", want, s.metrics())
	}
	s.logged("reason=proxy-header")
}

// TestNoBalancer: who is not in the list may not say whose connection it is; and where there is no list nobody may.
func TestNoBalancer(t *testing.T) {
	header := "PROXY TCP4 198.51.100.7 192.0.2.1 55551 8443\r\n"
	for _, list := range [][]string{{"192.0.2.0/24", "2001:db8::1"}, nil} {
		s := newStand(t, func(c *gateway.Config) { c.ProxyProtocol = list })
		d := s.fleet.Device(t, "device-1")
		if status, err := s.throughBalancer(d, header); err == nil {
			t.Errorf("%v: %d", list, status)
		}
		if status, err := s.throughBalancer(d, ""); (err == nil) != (list == nil) {
			t.Errorf("%v, without a header: %d %v", list, status, err)
		}
		if strings.Contains(s.log.String(), "198.51.100.7") && strings.Contains(s.log.String(), "peer=198.51.100.7") {
			t.Errorf("%v: the address counts:\n%s", list, s.log)
		}
	}
}

// TestBalancedAddressesAreApart: handshakes are bounded for each address that the balancer names, not for the balancer.
func TestBalancedAddressesAreApart(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) {
		c.ProxyProtocol, c.Limits.Handshakes = []string{"127.0.0.0/8"}, 2
	})
	d := s.fleet.Device(t, "device-1")
	half := func(ip string) net.Conn {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "PROXY TCP4 %s 192.0.2.1 55551 8443\r\n", ip)
		return c
	}
	for range 3 {
		half("198.51.100.7")
	}
	s.logged("reason=address-limit")
	s.logged("peer=198.51.100.7:55551")
	if status, err := s.throughBalancer(d, "PROXY TCP4 198.51.100.8 192.0.2.1 55551 8443\r\n"); err != nil || status != 200 {
		t.Errorf("another address: %d %v", status, err)
	}
	// Connections that say nothing hold up none that do.
	for range 8 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if status, err := s.throughBalancer(d, "PROXY TCP4 198.51.100.8 192.0.2.1 55551 8443\r\n"); err != nil || status != 200 {
		t.Errorf("behind silent ones: %d %v", status, err)
	}
}

// TestCurlAsBalancer: curl writes the header.
func TestCurlAsBalancer(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.ProxyProtocol, c.Log.Requests = []string{"127.0.0.1"}, true })
	d := s.fleet.Device(t, "device-1")
	cert, key, root := s.write("d.pem", "CERTIFICATE", d.Cert.Raw), s.writeKey("d.key", d), filepath.Join(s.dir, "gateway.pem")
	out, err := exec.Command("curl", "-sS", "--haproxy-protocol", "--cacert", root, "--cert", cert, "--key", key, "https://"+s.addr+"/x").CombinedOutput()
	if err != nil || string(out) != "hello device-1" {
		t.Errorf("curl: %v %s", err, out)
	}
}

// TestBalancerConfig: a list that would let anybody name an address, or that names none, is refused.
func TestBalancerConfig(t *testing.T) {
	for _, text := range []string{"0.0.0.0/0", "::/0", "lb.example.com", "10.0.0.5/24", "10.0.0.0/33", "", "fe80::1%lo", "10.0.0.5:80"} {
		c := gateway.Config{Listen: "127.0.0.1:0", Environment: "test", TLS: gateway.TLSConfig{Certificate: "a", Key: "b"}, Trust: gateway.TrustConfig{Source: "t", Root: "r", State: "s"},
			Registry: gateway.RegistryConfig{Path: "d"}, Upstream: gateway.UpstreamConfig{URL: "http://127.0.0.1:1"}, ProxyProtocol: []string{"10.0.0.5", "10.0.0.0/24", "2001:db8::/32"}}
		if _, err := gateway.NewSettings(c, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		c.ProxyProtocol = append(c.ProxyProtocol, text)
		if _, err := gateway.NewSettings(c, t.TempDir()); err == nil || !strings.Contains(err.Error(), "proxy_protocol") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
