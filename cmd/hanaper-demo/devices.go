package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
)

// enrolDevices gives two boards their identity: the keys are born in the boards' own tokens.
func (p *play) enrolDevices(ctx context.Context) error {
	p.title("Devices are enrolled")
	for _, id := range []string{"vin-0001", "vin-0002"} {
		if err := p.provision(ctx, id, p.boards[id].URI, p.gateway); err != nil {
			return err
		}
		p.say("%s: key born in its own token (id 02), certificate back in it (id 01), import folder in devices/%s", id, id)
	}
	return nil
}

// provision has a station give a device its identity. gateway is the address that the device will call.
func (p *play) provision(ctx context.Context, id, token, gateway string) error {
	store := "pkcs11"
	if strings.HasPrefix(token, hsm.SchemeTPM+":") {
		store = "tpm"
	}
	if err := p.write(id+".yaml", fmt.Sprintf(`factory: {url: "https://%s", ca: ceremony/artefacts/operations-root.pem, certificate: ceremony/artefacts/station-1.pem, key: requests/station-1.key}
fleet_root: ceremony/artefacts/fleet-root.pem
device: {id: %s, hardware_id: demo-board, key_store: %s, token: %q}
gateway: {url: "https://%s", root: ceremony/artefacts/gateway-root.pem}
uptane: {image_root: ceremony/uptane/image/root.json, director_root: ceremony/uptane/director/root.json}
import: devices/%s
`, p.factory, id, store, token, gateway, id)); err != nil {
		return err
	}
	_, err := p.run(ctx, "hanaper-station", "enroll", "--config", id+".yaml")
	return err
}

// device is a client as aktualizr is one: it signs with the key in the board's token and sends its leaf only.
type device struct {
	client *http.Client
	close  func()
}

func (p *play) device(ctx context.Context, id string) (*device, error) {
	b := p.boards[id]
	uri := hsm.URI{Token: b.Label, Serial: b.Serial, ID: []byte{2}, ModulePath: b.Module, PINSource: b.PINFile}
	key, closer, err := open.Key(ctx, uri, nil)
	if err != nil {
		return nil, err
	}
	chain, err := p.read("devices", id, "client.pem")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, fmt.Errorf("devices/%s/client.pem holds no certificate", id)
	}
	client, err := p.client(block.Bytes, key)
	if err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	return &device{client: client, close: func() { client.CloseIdleConnections(); closer.Close() }}, nil
}

// client trusts the Gateway Server Root and no other.
func (p *play) client(cert []byte, key crypto.Signer) (*http.Client, error) {
	root, err := p.read("ceremony", "artefacts", "gateway-root.pem")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, errors.New("gateway-root.pem holds no certificate")
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}}}, nil
}

// get asks for a path through the gateway; a client that is turned away may see a status or a broken connection.
func (p *play) get(client *http.Client, path string, header http.Header) (status int, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, "https://"+p.gateway+path, nil)
	if err != nil {
		return 0, "", err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, string(b), err
}

func (p *play) admitDevices(ctx context.Context) error {
	p.title("The gateway admits them")
	for _, id := range []string{"vin-0001", "vin-0002"} {
		d, err := p.device(ctx, id)
		if err != nil {
			return err
		}
		// A device that claims to be another one: the header must not get through.
		status, body, err := p.get(d.client, "/whoami", http.Header{"X-Ats-Device-Uuid": {"vin-9999"}, "x_ats_device_uuid": {"vin-9999"}})
		d.close()
		if err != nil {
			return err
		}
		if status != http.StatusOK || body != id {
			return fmt.Errorf("%s: status %d, and the upstream believes to have met %q", id, status, body)
		}
		p.say("%s connects with the key in its token, claims in a header to be vin-9999, and is known upstream as %s", id, body)
	}
	return nil
}

// upstream is what stands behind the gateway: the repositories, and at /whoami the device id that it was told.
type upstream struct{ url string }

func newUpstream(repositories string) (*upstream, error) {
	to, err := url.Parse(repositories)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	handler := http.NewServeMux()
	handler.Handle("/", httputil.NewSingleHostReverseProxy(to))
	handler.HandleFunc("/whoami", func(w http.ResponseWriter, r *http.Request) {
		var ids []string
		for name, values := range r.Header {
			if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "x-ats-device-uuid") {
				ids = append(ids, values...)
			}
		}
		if len(ids) != 1 {
			http.Error(w, fmt.Sprintf("%d device ids", len(ids)), http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, ids[0])
	})
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	return &upstream{url: "http://" + l.Addr().String()}, nil
}

// foreignDevice makes a perfect device certificate for vin-0001 under another company's root.
func foreignDevice() (cert []byte, key crypto.Signer, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(0x4d), 150), Subject: pkix.Name{CommonName: "Demo Fleet Root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		SubjectKeyId: []byte("somebody else's key"), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	deviceKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(0x4e), 150), Subject: pkix.Name{CommonName: "vin-0001"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	cert, err = x509.CreateCertificate(rand.Reader, leaf, ca, deviceKey.Public(), caKey)
	return cert, deviceKey, err
}
