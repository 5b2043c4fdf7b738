package stepcas

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
	"go.step.sm/crypto/kms"
	kmsapi "go.step.sm/crypto/kms/apiv1"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Config is the member "config" of step-ca's "authority", beside "type": "hanapercas" and "certificateAuthority", which is hanaperd's
// URL. Files are in PEM; a key is a file that nobody else may read (mode 0600), or the URI of a key in a store that this step-ca was built with
// (pkcs11:, tpmkms:, awskms:, ...).
type Config struct {
	// Root is the root of hanaperd's TLS certificate, FleetRoot that of devices. Each file may hold several.
	Root      string `json:"root"`
	FleetRoot string `json:"fleetRoot"`
	// Certificate and Key are those that step-ca has as a station of hanaperd.
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	// OperatorCertificate and OperatorKey are those of an operator. Without them nothing is revoked.
	OperatorCertificate string `json:"operatorCertificate,omitempty"`
	OperatorKey         string `json:"operatorKey,omitempty"`
	// ServerCertificate and ServerKey are a CA for step-ca's own TLS certificate, which is no device's.
	ServerCertificate string `json:"serverCertificate"`
	ServerKey         string `json:"serverKey"`
	// Lot and HardwareID are said of each device.
	Lot        string `json:"lot,omitempty"`
	HardwareID string `json:"hardwareId,omitempty"`
}

// bad is an error of the configuration.
func bad(format string, args ...any) error {
	return fmt.Errorf("hanapercas: "+format, args...)
}

// New makes the service from step-ca's configuration. It opens files and keys, and does not connect.
func New(ctx context.Context, o apiv1.Options) (*Service, error) {
	if o.IsCreator {
		return nil, apiv1.NotImplementedError{Message: "hanapercas makes no certificate authority: that is a ceremony's"}
	}
	var c Config
	if len(o.Config) == 0 {
		return nil, bad("authority.config is missing")
	}
	if err := strict.JSON("authority.config", o.Config, &c); err != nil {
		return nil, bad("%w", err)
	}
	for _, f := range []struct{ name, value string }{{"root", c.Root}, {"fleetRoot", c.FleetRoot}, {"certificate", c.Certificate}, {"key", c.Key},
		{"serverCertificate", c.ServerCertificate}, {"serverKey", c.ServerKey}} {
		if f.value == "" {
			return nil, bad("authority.config: %s is missing", f.name)
		}
	}
	if (c.OperatorCertificate == "") != (c.OperatorKey == "") {
		return nil, bad("authority.config: operatorCertificate and operatorKey are given together, or not at all")
	}
	s := &Service{config: c}
	var err error
	if s.fleet, err = factory.LoadCertificates(c.FleetRoot); err != nil {
		return nil, bad("fleetRoot: %w", err)
	}
	if s.station, err = client(ctx, o.CertificateAuthority, c.Root, c.Certificate, c.Key); err != nil {
		return nil, bad("%w", err)
	}
	if c.OperatorKey != "" {
		if s.operator, err = client(ctx, o.CertificateAuthority, c.Root, c.OperatorCertificate, c.OperatorKey); err != nil {
			return nil, bad("%w", err)
		}
	}
	if s.server, err = serverCA(ctx, c, s.fleet); err != nil {
		return nil, bad("%w", err)
	}
	return s, nil
}

// client speaks to hanaperd with this identity. step-ca's own callers wait for no more than 15 s.
func client(ctx context.Context, url, root, certificate, key string) (*factory.Client, error) {
	roots, err := factory.LoadCertificates(root)
	if err != nil {
		return nil, err
	}
	who, err := identity(ctx, certificate, key)
	if err != nil {
		return nil, err
	}
	return factory.NewClient(factory.ClientConfig{URL: url, CA: roots, Identity: who, Timeout: callTime})
}

// identity reads a certificate and its key, from a file or from where its URI says.
func identity(ctx context.Context, certificate, key string) (tls.Certificate, error) {
	if !isURI(key) {
		return factory.LoadIdentity(certificate, key)
	}
	chain, err := factory.LoadCertificates(certificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	signer, err := storeKey(ctx, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if !samePublic(chain[0].PublicKey, signer.Public()) {
		return tls.Certificate{}, fmt.Errorf("the key is not that of %s", show.Text(certificate))
	}
	who := tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	for _, c := range chain {
		who.Certificate = append(who.Certificate, c.Raw)
	}
	return who, nil
}

// isURI says that a key is named by the URI of a store.
func isURI(key string) bool {
	scheme, _, found := strings.Cut(key, ":")
	return found && len(scheme) > 1 && !strings.ContainsAny(scheme, "/\\.")
}

// storeKey opens a key in one of the stores that step-ca was built with.
func storeKey(ctx context.Context, uri string) (crypto.Signer, error) {
	kind, err := kmsapi.TypeOf(uri)
	if err != nil {
		return nil, err
	}
	store, err := kms.New(ctx, kmsapi.Options{Type: kind, URI: uri})
	if err != nil {
		return nil, err
	}
	return store.CreateSigner(&kmsapi.CreateSignerRequest{SigningKey: uri})
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// serverCA signs step-ca's own TLS certificate. Devices' gateways trust the Fleet Root, so that it must not be under it.
func serverCA(ctx context.Context, c Config, fleet []*x509.Certificate) (*softcas.SoftCAS, error) {
	id, err := identity(ctx, c.ServerCertificate, c.ServerKey)
	if err != nil {
		return nil, err
	}
	chain, err := factory.LoadCertificates(c.ServerCertificate)
	if err != nil {
		return nil, err
	}
	if !chain[0].IsCA {
		return nil, errors.New("serverCertificate is no CA's: it signs step-ca's own TLS certificate, again each day")
	}
	for _, f := range fleet {
		if chain[len(chain)-1].CheckSignatureFrom(f) == nil {
			return nil, errors.New("serverCertificate is under the Fleet Root, which is for devices only: use another CA")
		}
	}
	signer, ok := id.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("serverKey cannot sign")
	}
	return softcas.New(ctx, apiv1.Options{CertificateChain: chain, Signer: signer})
}
