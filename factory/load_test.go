package factory_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// loadVariable makes a process of this test program the load generator: servers, and who asks them, are processes of their own in the figures.
const loadVariable = "HANAPER_TEST_LOAD"

func init() {
	if os.Getenv(loadVariable) != "" {
		os.Exit(generateLoad())
	}
}

// load is what the generator is told to do: send these HTTP requests, whole as they go over the wire, and count the answers.
type load struct {
	Address string
	// Roots and Identity (certificate and key) are in PEM; Identity is empty for a caller without certificate.
	Roots, Certificate, Key []byte
	Connections             int
	// Fresh makes a new connection for each request.
	Fresh    bool
	Requests [][]byte
	// Want is the status that each answer must have; Each must stand in it Times times.
	Want  int
	Each  string
	Times int
	// server is the process that answers.
	server int
}

// loadResult is what it took.
type loadResult struct {
	Seconds float64
	// Latencies are those of each request, in seconds.
	Latencies []float64
	// server is the processor time of the server and its children, in seconds.
	server float64
}

// p99 is the time in milliseconds that 99 of 100 requests did not exceed.
func (r loadResult) p99() float64 {
	s := slices.Sorted(slices.Values(r.Latencies))
	return 1000 * s[len(s)*99/100]
}

// generate runs a load in a process of its own.
func generate(t testing.TB, l load) loadResult {
	t.Helper()
	var in, out, errs bytes.Buffer
	if err := gob.NewEncoder(&in).Encode(l); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), loadVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &errs
	before := processorTime(l.server)
	if err := cmd.Run(); err != nil {
		t.Fatalf("load: %v: %s", err, errs.String())
	}
	var r loadResult
	if err := gob.NewDecoder(&out).Decode(&r); err != nil {
		t.Fatal(err)
	}
	r.server = processorTime(l.server) - before
	return r
}

// processorTime is what a process and its children, those that run, have used, in seconds (proc(5): fields 4, 14 and 15 of stat).
func processorTime(pid int) (seconds float64) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		end := bytes.LastIndexByte(text, ')')
		if err != nil || end < 0 {
			continue
		}
		f := strings.Fields(string(text[end+1:]))
		if strings.TrimSuffix(path, "/stat") != fmt.Sprint("/proc/", pid) && f[1] != fmt.Sprint(pid) {
			continue
		}
		for _, ticks := range f[11:13] {
			n, _ := strconv.ParseFloat(ticks, 64)
			seconds += n / 100
		}
	}
	return seconds
}

func generateLoad() int {
	var l load
	err := gob.NewDecoder(os.Stdin).Decode(&l)
	var r loadResult
	if err == nil {
		r, err = l.run()
	}
	if err == nil {
		err = gob.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (l load) tls() (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(l.Roots) {
		return nil, errors.New("no roots")
	}
	// step-ca's own certificate is of the same CA as its leaves', whatever that one may issue for: the chain is verified for any usage, on both sides.
	c := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		for _, i := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(i)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}}
	if len(l.Certificate) > 0 {
		pair, err := tls.X509KeyPair(l.Certificate, l.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// run sends all requests over the connections, each of which waits for its answer before it sends the next.
func (l load) run() (r loadResult, err error) {
	conf, err := l.tls()
	if err != nil {
		return r, err
	}
	r.Latencies = make([]float64, len(l.Requests))
	conns := make([]*tls.Conn, l.Connections)
	if !l.Fresh {
		for i := range conns {
			if conns[i], err = tls.Dial("tcp", l.Address, conf); err != nil {
				return r, err
			}
			defer conns[i].Close()
		}
	}
	var next atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, l.Connections)
	start := time.Now()
	for w := range l.Connections {
		group.Go(func() {
			conn, in := conns[w], (*bufio.Reader)(nil)
			if conn != nil {
				in = bufio.NewReaderSize(conn, 16<<10)
			}
			for {
				i := int(next.Add(1) - 1)
				if i >= len(l.Requests) {
					return
				}
				begun := time.Now()
				if l.Fresh {
					c, err := tls.Dial("tcp", l.Address, conf)
					if err != nil {
						failed <- err
						return
					}
					conn, in = c, bufio.NewReaderSize(c, 16<<10)
				}
				if err := l.ask(conn, in, l.Requests[i]); err != nil {
					failed <- err
					return
				}
				if l.Fresh {
					conn.Close()
				}
				r.Latencies[i] = time.Since(begun).Seconds()
			}
		})
	}
	group.Wait()
	r.Seconds = time.Since(start).Seconds()
	select {
	case err = <-failed:
	default:
	}
	return r, err
}

func (l load) ask(conn *tls.Conn, in *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != l.Want || bytes.Count(body, []byte(l.Each)) != l.Times {
		return fmt.Errorf("%s: %.300s", resp.Status, body)
	}
	return nil
}

// post is a whole HTTP request.
func post(host, path, kind string, body []byte, fresh bool) []byte {
	closing := ""
	if fresh {
		closing = "Connection: close\r\n"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n%s", path, host, kind, closing, len(body), body)
}

// pems gives an identity's certificate and key in PEM.
func (i identity) pems(t testing.TB) (cert, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
