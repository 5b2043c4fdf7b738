package factory_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory/record/postgres"
	"github.com/hanaper/hanaper/internal/postgrestest"
	"github.com/hanaper/hanaper/internal/programtest"
)

// TestRenewalKills: devices renew by script through the gateway at one hanaperd, and by a second gateway at another on the same PostgreSQL
// database, at the same time, while the first hanaperd and the gateway are killed again and again. Each device gets one certificate, whoever
// answers, and the one that is on record.
func TestRenewalKills(t *testing.T) {
	const devices, kills = 6, 3
	cluster := postgrestest.Start(t)
	database := cluster.Database()
	f := newField(t, renewalSection, database)
	second, address := f.writeConfigFor(t, f.dir, 1, database)
	f.append(second, renewalSection)
	other := start(t, programtest.Dir(t), second)
	t.Cleanup(func() { other.kill() })

	roots := x509.NewCertPool()
	roots.AddCert(f.operations.cert)
	direct := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots,
		Certificates: []tls.Certificate{f.plant.gateway(t, "gw-2").tls()}}}}
	defer direct.CloseIdleConnections()
	// ask is what a gateway of the other site sends for this device.
	ask := func(pair tls.Certificate, id string) ([]byte, error) {
		der := derOf(t, request(t, pair.PrivateKey.(crypto.Signer), csr.Template{Subject: pkix.Name{CommonName: id}}))
		q, err := http.NewRequest("POST", "https://"+address+"/.well-known/est/simplereenroll", strings.NewReader(base64.StdEncoding.EncodeToString(der)))
		if err != nil {
			return nil, err
		}
		q.Header.Set("Content-Type", "application/pkcs10")
		q.Header.Set("Client-Cert", ":"+base64.StdEncoding.EncodeToString(pair.Certificate[0])+":")
		resp, err := direct.Do(q)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			return nil, fmt.Errorf("%d %s %v", resp.StatusCode, body, err)
		}
		return base64.StdEncoding.DecodeString(strings.ReplaceAll(string(body), "\n", ""))
	}

	dirs := make([]string, devices)
	olds := make([]tls.Certificate, devices)
	for i := range dirs {
		dirs[i] = f.device(fmt.Sprint("dev-", i))
		olds[i] = f.pair(dirs[i])
	}
	answers := make([][]byte, devices)
	var all sync.WaitGroup
	var cut atomic.Int64
	deadline := time.Now().Add(3 * time.Minute)
	for i, dir := range dirs {
		all.Go(func() {
			for {
				code, said := f.renewed(dir)
				if code == 0 {
					return
				}
				cut.Add(1)
				if code != 75 || time.Now().After(deadline) {
					t.Errorf("%s: %d %s", dir, code, said)
					return
				}
			}
		})
		all.Go(func() {
			for {
				p7, err := ask(olds[i], fmt.Sprint("dev-", i))
				if err == nil {
					answers[i] = p7
					return
				}
				if time.Now().After(deadline) {
					t.Error(err)
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	for range kills {
		time.Sleep(150 * time.Millisecond)
		f.hanaperd.kill()
		f.killGateway()
		f.hanaperd = start(t, programtest.Dir(t), f.config)
		f.startGateway()
	}
	all.Wait()
	t.Logf("%d calls of devices were cut off", cut.Load())

	store, err := postgres.Open(t.Context(), postgres.Config{Database: database})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for i, dir := range dirs {
		list, err := store.Generations(t.Context(), fmt.Sprint("dev-", i), 10)
		if err != nil || len(list) != 2 || list[0].Open() {
			t.Fatalf("%d generations, %v", len(list), err)
		}
		if pair := f.pair(dir); !bytes.Equal(pair.Certificate[0], list[0].Certificate) {
			t.Errorf("dev-%d has another certificate than is on record", i)
		}
		if !bytes.Contains(answers[i], list[0].Certificate) {
			t.Errorf("dev-%d got another certificate from the other server", i)
		}
		if !list[1].RevokedAt.IsZero() {
			t.Errorf("dev-%d: what it had ended before its time", i)
		}
	}
}
