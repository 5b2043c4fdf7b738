package tpm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
)

// bus is the line between a program and a TPM, at which somebody listens who may also answer in the TPM's place.
type bus struct {
	socket string
	mu     sync.Mutex
	heard  bytes.Buffer
	// answer, if it gives one, is sent in place of the TPM's.
	answer func(command []byte) []byte
}

func newBus(t testing.TB, c *tpmtest.Chip) *bus {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bus{socket: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", b.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			up, err := l.Accept()
			if err != nil {
				return
			}
			b.serve(up, c.Socket)
		}
	}()
	return b
}

// serve hands commands on, one at a time, as one TPM has it.
func (b *bus) serve(up net.Conn, socket string) {
	defer up.Close()
	down, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer down.Close()
	for {
		command, err := message(up)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.heard.Write(command)
		instead := []byte(nil)
		if b.answer != nil {
			instead = b.answer(command)
		}
		b.mu.Unlock()
		if instead == nil {
			if _, err := down.Write(command); err != nil {
				return
			}
			if instead, err = message(down); err != nil {
				return
			}
		}
		b.mu.Lock()
		b.heard.Write(instead)
		b.mu.Unlock()
		if _, err := up.Write(instead); err != nil {
			return
		}
	}
}

// message reads a command or an answer: two octets of tag, four of size.
func message(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[2:])-10)
	_, err := io.ReadFull(r, rest)
	return append(head, rest...), err
}

// TestBus: whoever listens at the bus through the whole life of a store and its keys hears neither the PIN nor a secret.
func TestBus(t *testing.T) {
	c := tpmtest.New(t)
	b := newBus(t, c)
	n := tpm.NewStore{Device: b.socket, Folder: filepath.Join(t.TempDir(), "store"), Label: "roots"}
	info, err := tpm.Init(bg, n, []byte(pin))
	if err != nil {
		t.Fatal(err)
	}
	u := info.URI()
	u.Device, u.Store = b.socket, n.Folder
	tok := open(t, u)
	k, err := tok.Generate(bg, hsm.GenerateSpec{Label: "key", Algorithm: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	digest := bytes.Repeat([]byte{0xd1}, 32)
	if _, err := k.Sign(nil, digest, hashSHA256); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := tok.Certify(bg, k, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	agree, err := tok.Generate(bg, hsm.GenerateSpec{Label: "agree", Algorithm: hsm.P256, Use: hsm.Agreement})
	if err != nil {
		t.Fatal(err)
	}
	x, err := agree.(*tpm.Key).KeyExchanger()
	if err != nil {
		t.Fatal(err)
	}
	other, err := x.Curve().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x.ECDH(other.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	sealed := filepath.Join(t.TempDir(), "pin")
	if err := tpm.SealPIN(bg, tpm.Seal{Device: b.socket, PCRs: []int{7}, File: sealed}, []byte("a sealed PIN")); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.SealedPIN(sealed)(bg, info); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, what := range map[string][]byte{"the PIN": []byte(pin), "a sealed PIN": []byte("a sealed PIN"), "a digest to sign": digest, "a shared secret": secret} {
		if bytes.Contains(b.heard.Bytes(), what) {
			t.Errorf("%s crosses the bus", name)
		}
	}
	if b.heard.Len() < 10_000 {
		t.Errorf("only %d bytes were heard", b.heard.Len())
	}
}

// TestNotReady: a TPM that asks to send a command again gets it again, and no PIN is counted twice.
func TestNotReady(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	b := newBus(t, c)
	u.Device = b.socket
	n := 0
	codes := []uint32{0x922, 0x908, 0x90a, 0x920} // RETRY, YIELDED, TESTING, NV_RATE
	b.mu.Lock()
	b.answer = func([]byte) []byte {
		if n++; n%2 == 0 {
			return nil
		}
		out := []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(out[6:], codes[n/2%len(codes)])
		return out
	}
	b.mu.Unlock()
	tok := open(t, u)
	k, err := tok.Generate(bg, hsm.GenerateSpec{Label: "key", Algorithm: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	signs(t, k, hashSHA256)
	if info, err := tpm.Describe(bg, c.Socket); err != nil || info.PINState != "" {
		t.Errorf("%q, %v", info.PINState, err)
	}
}

// TestGarbage: answers that are no answers end an operation with an error, and nothing hangs or panics.
func TestGarbage(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	b := newBus(t, c)
	u.Device = b.socket
	for name, answer := range map[string][]byte{
		"too short for what it is": {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0},
		"another tag":              {0x12, 0x34, 0, 0, 0, 10, 0, 0, 0, 0},
		"an unknown code":          {0x80, 0x01, 0, 0, 0, 10, 0xff, 0xff, 0xff, 0xff},
		"a failed TPM":             {0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 1},
	} {
		b.mu.Lock()
		b.answer = func([]byte) []byte { return answer }
		b.mu.Unlock()
		if _, err := tpm.Open(bg, tpm.Config{URI: u, PIN: hsm.PINBytes([]byte(pin)), Patience: time.Second}); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	b.mu.Lock()
	b.answer = nil
	b.mu.Unlock()
	open(t, u)
}

// TestEllipticEndorsement: a TPM without a certificate has an elliptic-curve endorsement key; a certificate that its manufacturer publishes is put into the
// store, and a challenge for it is answered.
func TestEllipticEndorsement(t *testing.T) {
	c := tpmtest.Bare(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	tok := open(t, u)
	if _, _, _, err := tok.Attestor(bg); err == nil || !strings.Contains(err.Error(), "no certificate of its endorsement key") {
		t.Fatalf("without a certificate: %v", err)
	}
	dir := t.TempDir()
	run(t, c, "tpm2_createek", "-G", "ecc", "-c", filepath.Join(dir, "ek.ctx"), "-f", "pem", "-u", filepath.Join(dir, "ek.pem"))
	run(t, c, "tpm2_flushcontext", "-t")
	block, _ := pem.Decode([]byte(readFile(t, filepath.Join(dir, "ek.pem"))))
	if block == nil {
		t.Fatal("no public key")
	}
	ek, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	maker := attesttest.NewMaker(t, "Acme")
	cert := attesttest.Sign(t, &x509.Certificate{SerialNumber: attesttest.Serial(t), Subject: pkix.Name{CommonName: "chip"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageKeyAgreement, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}, BasicConstraintsValid: true}, ek, maker.Intermediate, maker.Key)
	var chain []byte
	for _, one := range []*x509.Certificate{cert, maker.Intermediate} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one.Raw})...)
	}
	if err := os.WriteFile(filepath.Join(u.Store, "endorsement.pem"), chain, 0o644); err != nil {
		t.Fatal(err)
	}
	a := &attest.Attestor{Label: "roots", Serial: u.Serial}
	if a.EKChain, a.EKPublic, a.AKPublic, err = tok.Attestor(bg); err != nil {
		t.Fatal(err)
	}
	pinned := attesttest.Pin(t, attest.TPM, maker)
	if _, err := pinned.VerifyAttestor(a, time.Now()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ch, err := pinned.NewChallenge(rand.Reader, "ada", a, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		secret, err := tok.Activate(bg, ch.Blob, ch.Encrypted)
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.Opened(a, secret); err != nil {
			t.Fatal(err)
		}
	}
}
