package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fleetFile is what the load reads: devices, each with a key of its own, and the CA above them all.
type fleetFile struct {
	Issuing []byte
	Devices []deviceFile
}

type deviceFile struct{ Cert, Key []byte }

// order is one piece of load; the devices from From on take turns.
type order struct {
	Addr       string
	From, Many int
	// Visits are connections with one GET each; Requests are GETs on connections that stay, of which there are Clients; Hold are connections
	// with one GET that stay until the next order.
	Visits, Requests, Hold int
	Clients                int
	// HalfOpen are connections on which nothing is said, Greedy are those that the first device wants all for itself; both stay until the next
	// order.
	HalfOpen, Greedy int
	// Source is the address to come from; empty for any.
	Source string
}

// outcome of an order: the latency is that of a visit or a request.
type outcome struct {
	Seconds float64
	P50     time.Duration
	P99     time.Duration
	Failed  int
	First   string
}

// ask has the load process do it.
func (c *child) ask(b testing.TB, o order) outcome {
	b.Helper()
	if err := json.NewEncoder(c.in).Encode(o); err != nil {
		b.Fatal(err)
	}
	line, err := c.out.ReadBytes('\n')
	var got outcome
	if err == nil {
		err = json.Unmarshal(line, &got)
	}
	if err != nil {
		b.Fatalf("load: %v", err)
	}
	return got
}

// serveLoad takes orders until standard input ends. Argument: the fleet's file.
func serveLoad() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	var fleet fleetFile
	if err := gob.NewDecoder(bufio.NewReader(f)).Decode(&fleet); err != nil {
		panic(err)
	}
	f.Close()
	l := &load{}
	for _, d := range fleet.Devices {
		one := tls.Certificate{Certificate: [][]byte{d.Cert, fleet.Issuing}}
		if one.PrivateKey, err = x509.ParseECPrivateKey(d.Key); err != nil {
			panic(err)
		}
		if one.Leaf, err = x509.ParseCertificate(d.Cert); err != nil {
			panic(err)
		}
		l.devices = append(l.devices, one)
	}
	fmt.Println("ready")
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return
		}
		_ = out.Encode(l.do(o))
	}
}

type load struct {
	devices []tls.Certificate
	held    []net.Conn
}

func (l *load) do(o order) outcome {
	for _, c := range l.held {
		c.Close()
	}
	l.held = nil
	if o.HalfOpen+o.Greedy > 0 {
		return l.attack(o)
	}
	var mu sync.Mutex
	var took []time.Duration
	var result outcome
	note := func(mine []time.Duration, failed []error) {
		mu.Lock()
		defer mu.Unlock()
		took = append(took, mine...)
		for _, err := range failed {
			if result.Failed++; result.First == "" {
				result.First = err.Error()
			}
		}
	}
	var next atomic.Int64
	var group sync.WaitGroup
	begun := time.Now()
	for range o.Clients {
		group.Go(func() {
			var mine []time.Duration
			var failed []error
			defer func() { note(mine, failed) }()
			timed := func(do func() error) {
				at := time.Now()
				if err := do(); err != nil {
					failed = append(failed, err)
					return
				}
				mine = append(mine, time.Since(at))
			}
			if o.Requests > 0 {
				conn, r, err := l.connect(o.Source, o.Addr, o.From+int(next.Add(1))%o.Many)
				if err != nil {
					failed = append(failed, err)
					return
				}
				defer conn.Close()
				for range o.Requests / o.Clients {
					timed(func() error { return get(conn, r) })
				}
				return
			}
			for i := int(next.Add(1)) - 1; i < o.Visits+o.Hold; i = int(next.Add(1)) - 1 {
				timed(func() error {
					conn, r, err := l.connect(o.Source, o.Addr, o.From+i%o.Many)
					if err != nil {
						return err
					}
					if err = get(conn, r); err == nil && o.Hold > 0 {
						mu.Lock()
						l.held = append(l.held, conn)
						mu.Unlock()
						return nil
					}
					conn.Close()
					return err
				})
			}
		})
	}
	group.Wait()
	result.Seconds = time.Since(begun).Seconds()
	slices.Sort(took)
	if n := len(took); n > 0 {
		result.P50, result.P99 = took[n/2], took[n*99/100]
	}
	return result
}

// attack holds what it gets; what is refused is the gateway's work.
func (l *load) attack(o order) (result outcome) {
	for range o.HalfOpen {
		c, err := net.Dial("tcp", o.Addr)
		if err != nil {
			result.Failed++
			continue
		}
		l.held = append(l.held, c)
	}
	for range o.Greedy {
		c, _, err := l.connect(o.Source, o.Addr, o.From)
		if err != nil {
			result.Failed++
			continue
		}
		l.held = append(l.held, c)
	}
	return result
}

// connect does a full handshake, by the exchange and the cipher that are the same for all who are compared.
func (l *load) connect(source, addr string, device int) (*tls.Conn, *bufio.Reader, error) {
	one := &l.devices[device]
	dialer := &net.Dialer{}
	if source != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	conn, err := tls.DialWithDialer(dialer, "tcp", addr, &tls.Config{
		ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519},
		// The load is no part of what is measured: the signature of the server's key is verified all the same.
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return one, nil },
	})
	if err != nil {
		return nil, nil, err
	}
	if s := conn.ConnectionState(); s.Version != tls.VersionTLS13 || s.CurveID != tls.X25519 || s.CipherSuite != tls.TLS_AES_128_GCM_SHA256 || s.DidResume {
		conn.Close()
		return nil, nil, fmt.Errorf("another handshake than wanted: %s", tls.CipherSuiteName(s.CipherSuite))
	}
	return conn, bufio.NewReaderSize(conn, 512), nil
}

// get is one GET, with as little of a client as possible.
func get(conn *tls.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(conn, "GET /repo/timestamp.json HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	status, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(status), "HTTP/1.1 200 ") {
		return errors.New(strings.TrimSpace(string(status)))
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			_, err := r.Discard(len("hello"))
			return err
		}
	}
}
