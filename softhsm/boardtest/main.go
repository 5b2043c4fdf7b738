// Command boardtest is a simulated board: a device whose keys lie in its HSM (a SoftHSM token, or a TPM 2.0), which a station has
// provisioned. It connects to the gateway with key 02 and certificate 01, makes its Uptane key 03 at its first start if the station made none, and is a
// client of Uptane as uptane/devicetest has it. As process 1 of a virtual machine it sets the machine up first, and switches it off
// at the end (guest.go). It is for tests and for make board; no program links it.
//
// It trusts its import folder, its HSM and its clock. An attacker who can change the folder decides which servers it believes, as
// on any device before its first start.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/uptane/devicetest"
)

// The ids of a board's objects: those of the field, until its sota.toml says others.
var certificateID, keyID, uptaneID = []byte{1}, []byte{2}, []byte{3}

// readIDs takes the ids from the [p11] section of sota.toml, as the client of the field does; there is none for a TPM.
func readIDs(folder string) error {
	b, err := os.ReadFile(filepath.Join(folder, "sota.toml"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, "=")
		to := map[string]*[]byte{"tls_clientcert_id": &certificateID, "tls_pkey_id": &keyID, "uptane_key_id": &uptaneID}[strings.TrimSpace(name)]
		if to == nil {
			continue
		}
		if *to, err = hex.DecodeString(strings.Trim(strings.TrimSpace(value), `"`)); err != nil || len(*to) != 1 {
			return fmt.Errorf("sota.toml: %q", line)
		}
	}
	return nil
}

// board is what a board is told.
type board struct {
	Import, State, Token string
	Serial, Hardware     string
	// Dial is where the gateway is instead of at its own address, at a line that is not the field.
	Dial string
	// Expect is the image that it must have at the end; empty expects nothing.
	Expect string
}

func main() {
	if os.Getpid() == 1 {
		guest()
	}
	var b board
	for name, to := range map[string]*string{"import": &b.Import, "state": &b.State, "token": &b.Token, "serial": &b.Serial, "hardware-id": &b.Hardware, "dial": &b.Dial, "expect": &b.Expect} {
		flag.StringVar(to, name, "", "")
	}
	flag.Parse()
	if err := b.run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "board:", err)
		os.Exit(1)
	}
}

// run is one start of the board and one round of the client.
func (b board) run(ctx context.Context, say io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := readIDs(b.Import); err != nil {
		return err
	}
	uri, err := hsm.ParseURI(b.Token)
	if err != nil {
		return err
	}
	token, err := openToken(ctx, uri)
	if err != nil {
		return err
	}
	defer token.Close()
	client, err := b.client(ctx, token)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	url, err := os.ReadFile(filepath.Join(b.Import, "gateway.url"))
	if err != nil {
		return err
	}
	c := devicetest.Config{Dir: b.State, URL: strings.TrimSpace(string(url)), HTTP: client, Primary: devicetest.ECU{Serial: b.Serial, HardwareID: b.Hardware},
		Factory: devicetest.Image{Name: "factory", SHA256: strings.Repeat("0", 64)}}
	for path, to := range map[string]*[]byte{"director/root.json": &c.DirectorRoot, "repo/root.json": &c.ImageRoot} {
		if *to, err = os.ReadFile(filepath.Join(b.Import, path)); err != nil {
			return err
		}
	}
	made := ""
	if c.Primary.Key, made, err = uptaneKey(ctx, token); err != nil {
		return err
	}
	if err := os.MkdirAll(b.State, 0o700); err != nil {
		return err
	}
	d, err := devicetest.New(c)
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := d.Cycle(ctx); err != nil {
		return fmt.Errorf("round: %w", err)
	}
	has := d.Installed(b.Serial).Name
	fmt.Fprintf(say, "board: %s; %s; Uptane key %s; it has %s\n", token.Info().Name(), whoami(ctx, client, c.URL), made, has)
	if b.Expect != "" && has != b.Expect {
		return fmt.Errorf("it has %s, not %s", has, b.Expect)
	}
	return nil
}

// client shows the leaf alone, as the client of the field does, and signs with the key in the HSM.
func (b board) client(ctx context.Context, token hsm.Token) (*http.Client, error) {
	key, err := token.Key(ctx, hsm.Query{ID: keyID})
	if err != nil {
		return nil, err
	}
	cert, err := token.Certificate(ctx, certificateID)
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(filepath.Join(b.Import, "root.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, errors.New("root.crt holds no certificate")
	}
	way := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}}
	if b.Dial != "" {
		way.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, b.Dial)
		}
	}
	return &http.Client{Timeout: 20 * time.Second, Transport: way}, nil
}

// uptaneKey finds the key that signs the board's manifests, and makes it at the first start.
func uptaneKey(ctx context.Context, token hsm.Token) (hsm.Key, string, error) {
	k, err := token.Key(ctx, hsm.Query{ID: uptaneID})
	if !errors.Is(err, hsm.ErrNoKey) {
		return k, "found", err
	}
	k, err = token.Generate(ctx, hsm.GenerateSpec{Label: "uptane", ID: uptaneID, Algorithm: hsm.RSA2048, Class: hsm.Sealed})
	return k, "made now", err
}

// whoami is what the server behind the gateway was told of the caller.
func whoami(ctx context.Context, client *http.Client, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/whoami", nil)
	if err != nil {
		return err.Error()
	}
	res, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 200))
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Sprintf("status %d, %v", res.StatusCode, err)
	}
	return "the server knows it as " + string(bytes.TrimSpace(body))
}

// openTPM opens a store in the TPM.
func openTPM(ctx context.Context, uri hsm.URI) (hsm.Token, error) {
	t, err := tpm.Open(ctx, tpm.Config{URI: uri, PIN: hsm.PINFromURI(uri, nil)})
	if err != nil {
		return nil, err
	}
	return t, nil
}
