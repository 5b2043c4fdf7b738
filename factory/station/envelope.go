package station

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/internal/strict"
)

// envelope is a DSSE envelope (v1) of one signature, with the signer's certificate beside it. Who can write to the stick that carries it
// can lose it, or put an older one in its place; he cannot change a byte of what it says, nor speak as a station: the certificate must
// chain to the Operations Root that the reader holds, name a station, and be neither expired nor, where a list is at hand, revoked.
type envelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     string              `json:"payload"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	KeyID string `json:"keyid"`
	Cert  string `json:"cert"`
	Sig   string `json:"sig"`
}

// seal signs a payload as the holder of id.
func seal(id tls.Certificate, payloadType string, payload any) ([]byte, [32]byte, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, [32]byte{}, err
	}
	key, ok := id.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, [32]byte{}, fmt.Errorf("a key of type %T signs nothing", id.PrivateKey)
	}
	message := dsse.PAE(payloadType, body)
	scheme := signature.Scheme(key.Public())
	sig, err := signature.Sign(key, message, scheme)
	if err != nil {
		return nil, [32]byte{}, err
	}
	fingerprint := sha256.Sum256(id.Leaf.Raw)
	e := envelope{payloadType, base64.StdEncoding.EncodeToString(body), []envelopeSignature{{hex.EncodeToString(fingerprint[:]),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.Leaf.Raw})), base64.StdEncoding.EncodeToString(sig)}}}
	b, err := json.MarshalIndent(e, "", " ")
	return append(b, '\n'), sha256.Sum256(body), err
}

// carriedTrust is what a carried envelope is held against.
type carriedTrust struct {
	callers *factory.Callers
	pool    *x509.CertPool
	now     func() time.Time
}

// spoolTrust loads the Operations Root, and its list of revoked certificates if the configuration names one.
func (c *Config) spoolTrust(now func() time.Time) (*carriedTrust, error) {
	path := c.Spool.Root
	if path == "" {
		path = c.Factory.CA
	}
	roots, err := factory.LoadCertificates(path)
	if err != nil {
		return nil, err
	}
	callers, err := factory.NewCallers(roots, nil, now)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "")
	}
	if c.Spool.CRL != "" {
		list, err := factory.LoadCRL(c.Spool.CRL)
		if err == nil {
			err = callers.UseCRL(list)
		}
		if err != nil {
			return nil, advice.Wrap(advice.Usage, fmt.Errorf("%s: %w", show.Text(c.Spool.CRL), err), "it is the Operations Root's")
		}
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	return &carriedTrust{callers, pool, now}, nil
}

// unseal verifies an envelope of this type, and gives its payload and the name of the station that signed it.
func (t *carriedTrust) unseal(name, payloadType string, b []byte) (payload []byte, by string, err error) {
	bad := func(format string, args ...any) ([]byte, string, error) {
		return nil, "", advice.New(advice.Unverified, "nothing was taken from it; have it written again, and look at the stick", "%s: %w", show.Text(name), fmt.Errorf(format, args...))
	}
	var e envelope
	if err := strict.JSON(name, b, &e); err != nil {
		return nil, "", advice.Wrap(advice.Unverified, err, "it is no file that a station wrote, or it was changed on the way")
	}
	if e.PayloadType != payloadType {
		return bad("it is of type %.80q, not %s", e.PayloadType, payloadType)
	}
	if len(e.Signatures) != 1 {
		return bad("it has %d signatures, not one", len(e.Signatures))
	}
	s := e.Signatures[0]
	certs, err := factory.ParseCertificates([]byte(s.Cert))
	if err != nil || len(certs) != 1 || !bytes.Equal([]byte(s.Cert), encode(certs)) {
		return bad("its signer's certificate cannot be read")
	}
	leaf := certs[0]
	fingerprint := sha256.Sum256(leaf.Raw)
	if s.KeyID != hex.EncodeToString(fingerprint[:]) {
		return bad("its keyid is not that of its certificate")
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: t.pool, CurrentTime: t.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return bad("the certificate of its signer is not of our Operations Root: %w", err)
	}
	who, err := t.callers.Check(leaf)
	if err != nil {
		return bad("the certificate of its signer %s", show.Line(err.Error()))
	}
	if who.Role != ca.RoleStation {
		return bad("it is signed by %s, and a station is wanted", show.Text(who.String()))
	}
	payload, err = base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil || base64.StdEncoding.EncodeToString(payload) != e.Payload {
		return bad("its payload is not in base64")
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
	if err != nil || base64.StdEncoding.EncodeToString(sig) != s.Sig ||
		!signature.VerifyMessage(leaf.PublicKey, dsse.PAE(payloadType, payload), signature.Scheme(leaf.PublicKey), sig) {
		return bad("its signature does not verify")
	}
	return payload, who.Name, nil
}
