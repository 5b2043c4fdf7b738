package factory_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/uptane/repo"
)

// allow has the officers sign a policy that allows shared credentials of the issuing CA, or none, and publishes it.
func (f *field) allow(shared bool) {
	f.t.Helper()
	p := trust.DefaultPolicy("test")
	if shared {
		p.Stage = trust.Development
		p.SharedCredentials = &trust.SharedCredentials{CA: trust.IssuerID(f.issuing).String(), Until: time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)}
	}
	p = p.WithFormat()
	f.world.Content.Policy, f.world.Now = p, time.Now().Truncate(time.Second)
	f.world.Rebuild()
	f.world.Import()
}

// TestSharedField: a credentials.zip that an operator has made, a bench that takes curl and openssl to a gateway with it, and then goes on with what it got.
// When the officers call the environment production, gateway and hanaperd refuse all of it, and a hanaperd that is configured for it does not start.
func TestSharedField(t *testing.T) {
	f := newField(t, "renewal: {from_days: 10}\n", "")
	section := fmt.Sprintf("shared_credentials: {environment: test, trust: {source: %q, root: 1.root.json, state: shared-state, interval: 100ms}, server_root: gateway-root.pem}\n", f.world.Dir)
	f.append(f.config, section)
	f.hanaperd.stop()
	serve := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, programtest.Path(t, "hanaperd"), "serve", "--config", f.config).CombinedOutput()
		if err == nil || ctx.Err() != nil {
			t.Errorf("hanaperd started in production: %v", err)
		}
		return string(out)
	}
	if said := serve(); !strings.Contains(said, "allows no shared credentials") {
		t.Errorf("hanaperd said %s", said)
	}
	f.allow(true)
	f.hanaperd = start(t, programtest.Dir(t), f.config)
	olga := f.operator(t, "olga")
	olga.write(t, f.dir, "olga")
	call := func(verb, act string, rest ...string) string {
		t.Helper()
		args := append([]string{verb, act, "--url", "https://" + f.address, "--ca", filepath.Join(f.dir, "operations-root.pem"), "--cert", filepath.Join(f.dir, "olga.pem"), "--key", filepath.Join(f.dir, "olga.key")}, rest...)
		out, err := exec.Command(programtest.Path(t, "hanaperd"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	order := filepath.Join(f.dir, "order")
	if err := os.WriteFile(order, signed(t, newOrder(&olga, "benches", 3), olga.key), 0o600); err != nil {
		t.Fatal(err)
	}
	call("lot", "open", order)
	archive := filepath.Join(f.dir, "credentials.zip")
	if said := call("shared", "issue", "--lot", "benches", "--days", "3", "--gateway", f.url, "--out", archive); !strings.Contains(said, "not for production") {
		t.Errorf("issue said %s", said)
	}
	if info, err := os.Stat(archive); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	c, err := repo.ReadCredentials(data)
	if err != nil {
		t.Fatal(err)
	}
	if url, _ := c.Entry("autoprov.url"); string(url) != f.url {
		t.Errorf("autoprov.url is %q", url)
	}
	p12, _ := c.Entry("autoprov_credentials.p12")
	credential := unpack(t, p12)
	f.publish()

	// The bench has curl, by OpenSSL, and the root that it finds in the credential.
	dir := t.TempDir()
	bench := filepath.Join(dir, "p12")
	identity{credential.leaf, credential.key}.write(t, dir, "shared")
	root := writePEM(t, filepath.Join(dir, "root.pem"), "CERTIFICATE", credential.roots[0].Raw)
	ask := func(id string) (string, []byte) {
		t.Helper()
		_ = os.Remove(bench)
		out, err := exec.Command("curl", "--silent", "--show-error", "--cacert", root, "--cert", filepath.Join(dir, "shared.pem"), "--key", filepath.Join(dir, "shared.key"), "--output", bench, "--write-out", "%{http_code}",
			"--json", fmt.Sprintf(`{"deviceId": %q, "ttl": "36000"}`, id), f.url+"/devices").CombinedOutput()
		if err != nil {
			return err.Error() + string(out), nil
		}
		data, _ := os.ReadFile(bench)
		return string(out), data
	}
	status, got := ask("bench-1")
	if status != "201" {
		t.Fatalf("%s %s\n%s", status, got, f.log)
	}
	one := unpack(t, got)
	pair := identity{one.leaf, one.key}.tls()
	if said, err := f.whoami(pair); err != nil || said != "hello bench-1" {
		t.Fatal(said, err)
	}
	if status, got := ask("bench-1"); status != "409" || !bytes.Contains(got, []byte("device_already_registered")) {
		t.Errorf("again: %s %s", status, got)
	}
	if said, err := f.whoami(identity{credential.leaf, credential.key}.tls()); err == nil && strings.HasPrefix(said, "hello") {
		t.Errorf("the credential got upstream: %s", said)
	}
	// nginx, Go and all others refuse the credential: it is for no client.
	if _, err := credential.leaf.Verify(x509.VerifyOptions{Roots: pool(f.fleet.cert), Intermediates: pool(f.issuing), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("crypto/x509 takes the credential for a client's")
	}

	// Production.
	f.allow(false)
	refused := func(pair tls.Certificate) func() bool {
		return func() bool {
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(f.edge.cert), Certificates: []tls.Certificate{pair}}}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get(f.url + "/x")
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			return err != nil
		}
	}
	f.until("the gateway takes a bench in production", refused(pair))
	f.until("the gateway takes a shared credential in production", refused(identity{credential.leaf, credential.key}.tls()))
	f.hanaperd.stop()
	if said := serve(); !strings.Contains(said, "allows no shared credentials") {
		t.Errorf("hanaperd said %s", said)
	}
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
