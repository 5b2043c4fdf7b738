package quorum

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// The example shares opened by the specification alone: integers, crypto/hpke and crypto/hkdf, no code of this package.
func TestSharesBySpecification(t *testing.T) {
	data, err := os.ReadFile("testdata/example.shares.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Environment, Purpose string
		TokenSerial          string `json:"token_serial"`
		Epoch                uint64
		Threshold            uint32
		Commitments          [][]byte
		Shares               []struct {
			Index                    uint32
			Key                      string
			Encapsulated, Ciphertext []byte
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	var about []byte
	for _, s := range []string{doc.Environment, doc.Purpose, doc.TokenSerial} {
		about = append(be.AppendUint16(about, uint16(len(s))), s...)
	}
	about = be.AppendUint64(about, doc.Epoch)
	commitments := sha256.Sum256(slices.Concat(doc.Commitments...))
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	secret := new(big.Int)
	for i, s := range doc.Shares {
		key, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{byte(i + 1)}, 32))
		if err != nil {
			t.Fatal(err)
		}
		id, err := hex.DecodeString(s.Key)
		if err != nil {
			t.Fatal(err)
		}
		info := slices.Concat([]byte("hanaper share v1\x00"), about, be.AppendUint32(nil, doc.Threshold), be.AppendUint32(nil, s.Index),
			be.AppendUint32(nil, uint32(len(doc.Shares))), id, commitments[:])
		k, err := hpke.NewDHKEMPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := hpke.Open(k, hpke.HKDFSHA256(), hpke.AES256GCM(), info, slices.Concat(s.Encapsulated, s.Ciphertext))
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(plain)
		term := new(big.Int).SetBytes(plain)
		for _, o := range doc.Shares {
			if o.Index == s.Index {
				continue
			}
			below := new(big.Int).Sub(big.NewInt(int64(o.Index)), big.NewInt(int64(s.Index)))
			term.Mul(term, big.NewInt(int64(o.Index)))
			term.Mul(term, below.ModInverse(below.Mod(below, order), order))
		}
		secret.Add(secret, term)
	}
	scalar := secret.Mod(secret, order).FillBytes(make([]byte, 32))
	slices.Reverse(scalar)
	stream, err := hkdf.Key(sha256.New, scalar, nil, "hanaper pin v1\x00"+string(about), 4*32+64)
	if err != nil {
		t.Fatal(err)
	}
	var pin []byte
	for _, b := range stream {
		if b < 248 && len(pin) < 32 {
			pin = append(pin, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[b%62])
		}
	}
	want, err := os.ReadFile("testdata/example.pin")
	if err != nil || string(pin) != strings.TrimSpace(string(want)) {
		t.Errorf("the PIN is %s: %v", pin, err)
	}
}

// Every scheme's envelope, its signature judged by openssl over a PAE made by go-securesystemslib.
func TestEnvelopesAgainstOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is needed as a judge: apt-get install openssl")
	}
	dir := t.TempDir()
	for _, p := range people(t)[:5] {
		env, err := SignDSSE(TranscriptPayload, []byte("checkpoint\n"), p.sign)
		if err != nil {
			t.Fatal(err)
		}
		var e dsse.Envelope
		if err := json.Unmarshal(env, &e); err != nil {
			t.Fatal(err)
		}
		payload, err := e.DecodeB64Payload()
		if err != nil {
			t.Fatal(err)
		}
		sig, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(p.SigningKey)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{"pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "sig": sig, "message": dsse.PAE(e.PayloadType, payload)}
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		args := []string{"pkeyutl", "-verify", "-pubin", "-inkey", "pub", "-sigfile", "sig", "-rawin", "-in", "message"}
		switch p.Scheme {
		case ECDSAP256SHA256, RSAPKCS1SHA256:
			args = append(args, "-digest", "sha256")
		case ECDSAP384SHA384:
			args = append(args, "-digest", "sha384")
		case RSAPSSSHA256:
			args = append(args, "-digest", "sha256", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:32")
		}
		cmd := exec.Command(openssl, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", p.Scheme, err, out)
		}
		// And by the library's own verifier.
		v, err := dsse.NewEnvelopeVerifier(libraryVerifier{p.Officer})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(context.Background(), &e); err != nil {
			t.Errorf("%s: go-securesystemslib: %v", p.Scheme, err)
		}
	}
}

type libraryVerifier struct{ o Officer }

func (v libraryVerifier) KeyID() (string, error)   { return v.o.KeyID, nil }
func (v libraryVerifier) Public() crypto.PublicKey { return v.o.SigningKey }
func (v libraryVerifier) Verify(_ context.Context, data, sig []byte) error {
	if !verify(v.o.Scheme, v.o.SigningKey, data, sig) {
		return errors.New("refused")
	}
	return nil
}
