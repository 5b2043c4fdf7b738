package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/internal/shell"
)

// roleVariable has this test's binary be another process of a benchmark: a peer, the upstream, the load.
const roleVariable = "HANAPER_GATEWAY_ROLE"

// profileVariable names a folder for CPU profiles of the gateway, which then runs in the test's binary.
const profileVariable = "HANAPER_BENCH_PROFILE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "upstream":
		serveUpstream()
	case "goproxy":
		serveGoProxy()
	case "load":
		serveLoad()
	case "profiled":
		serveProfiled()
	default:
		fmt.Fprintln(os.Stderr, "no such role:", role)
		os.Exit(2)
	}
}

// child is a process of a benchmark. It says on its first line where it listens.
type child struct {
	cmd  *exec.Cmd
	addr string
	in   io.WriteCloser
	out  *bufio.Reader
}

func play(b testing.TB, role string, args ...string) *child {
	b.Helper()
	c := &child{cmd: exec.Command(os.Args[0], args...)}
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), roleVariable+"="+role), os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.in.Close(); _ = c.cmd.Wait() })
	if c.addr, err = c.out.ReadString('\n'); err != nil {
		b.Fatalf("%s: %v", role, err)
	}
	c.addr = strings.TrimSpace(c.addr)
	return c
}

// whileOpen serves until standard input ends, as it does when the test's process does.
func whileOpen(serve func(net.Listener) error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() { panic(serve(l)) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

const hello = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"

// serveUpstream answers each request head alike, with as little work as can be: it shares the cores with what is measured.
func serveUpstream() {
	whileOpen(func(l net.Listener) error {
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					line, err := r.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						if _, err := io.WriteString(conn, hello); err != nil {
							return
						}
					}
				}
			}()
		}
	})
}

// serveGoProxy is what Go has for the same work: a server that wants a verified client certificate, before a ReverseProxy. Arguments: upstream,
// server's certificate, its key, the devices' root.
func serveGoProxy() {
	upstream := &url.URL{Scheme: "http", Host: os.Args[1]}
	pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	if err != nil {
		panic(err)
	}
	root, err := os.ReadFile(os.Args[4])
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(upstream) },
		Transport: &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, DisableCompression: true},
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Minute, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}}
	whileOpen(func(l net.Listener) error { return server.ServeTLS(l, "", "") })
}

// serveProfiled is the gateway with a profile of its whole life. Arguments: the profile, the config.
func serveProfiled() {
	f, err := os.Create(os.Args[1])
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	code := shell.Run(app(), []string{"hanaper-gateway", "serve", "--config", os.Args[2]})
	<-ctx.Done()
	pprof.StopCPUProfile()
	f.Close()
	os.Exit(code)
}

// startGateway starts the program, its log in a file, and gives its process and address.
func startGateway(b testing.TB, config, name string) *child {
	b.Helper()
	c := &child{cmd: exec.Command(programtest.Path(b, "hanaper-gateway"), "serve", "--config", config)}
	if dir := os.Getenv(profileVariable); dir != "" {
		c.cmd = exec.Command(os.Args[0], filepath.Join(dir, name+".pprof"), config)
		c.cmd.Env = append(os.Environ(), roleVariable+"=profiled")
	}
	log, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	c.cmd.Stderr = log
	if err := c.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.end)
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		text, _ := os.ReadFile(log.Name())
		if m := listening.FindStringSubmatch(string(text)); m != nil {
			c.addr = m[1]
			return c
		}
		if time.Now().After(end) {
			b.Fatalf("the gateway does not listen:\n%s", text)
		}
	}
}

func (c *child) end() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	_ = c.cmd.Wait()
}

// startNginx starts an nginx that asks for devices' certificates and forwards.
func startNginx(b testing.TB, upstream, cert, key, root string) *child {
	b.Helper()
	dir := b.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	c := &child{addr: l.Addr().String()}
	l.Close()
	conf := fmt.Sprintf(`daemon off; worker_processes 2; worker_rlimit_nofile 16384; pid %[1]s/pid; error_log %[1]s/error.log crit;
events { worker_connections 8192; multi_accept on; }
http {
  access_log off; keepalive_requests 10000000; keepalive_timeout 600s;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream behind { server %[6]s; keepalive 256; keepalive_requests 10000000; }
  server {
    listen %[2]s ssl;
    ssl_certificate %[3]s; ssl_certificate_key %[4]s; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_client_certificate %[5]s; ssl_verify_client on; ssl_verify_depth 4; ssl_session_tickets off; ssl_session_cache off;
    location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header x-ats-device-uuid $ssl_client_s_dn; }
  }
}
`, dir, c.addr, cert, key, root, upstream)
	if os.Getuid() == 0 {
		conf = "user root;" + conf
	}
	at := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(at, []byte(conf), 0o600); err != nil {
		b.Fatal(err)
	}
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx"
	}
	c.cmd = exec.Command(program, "-p", dir, "-c", at)
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		b.Fatalf("nginx, which scripts/install-peers installs: %v", err)
	}
	b.Cleanup(c.end)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", c.addr)
		if err == nil {
			conn.Close()
			return c
		}
		if time.Now().After(end) {
			b.Fatalf("nginx: %v", err)
		}
	}
}

// processes are the child's own and its children's.
func (c *child) processes() []int {
	list := []int{c.cmd.Process.Pid}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", list[0]))
	for _, field := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(field); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// processor is the time that these processes have had, in seconds.
func (c *child) processor() float64 {
	var ticks float64
	for _, pid := range c.processes() {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, after, ok := strings.Cut(string(stat), ") "); ok {
			if f := strings.Fields(after); len(f) > 12 {
				user, _ := strconv.ParseFloat(f[11], 64)
				system, _ := strconv.ParseFloat(f[12], 64)
				ticks += user + system
			}
		}
	}
	return ticks / 100 // USER_HZ of Linux
}

// memory is what the processes hold, in kB, shared pages counted in part (Pss).
func (c *child) memory() float64 {
	var sum float64
	for _, pid := range c.processes() {
		roll, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if _, after, ok := strings.Cut(string(roll), "\nPss:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(after)[0], 64)
			sum += kb
		}
	}
	return sum
}
