package kms

import (
	"context"
	"crypto"
	"fmt"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/awskms"
	"go.step.sm/crypto/kms/azurekms"
	"go.step.sm/crypto/kms/cloudkms"
	"go.step.sm/crypto/kms/tpmkms"

	"github.com/hanaper/hanaper/hsm"
)

// stepManager is a store of step's, as it is.
type stepManager struct {
	apiv1.KeyManager
	address *Address
	// named is how the store's own URI of a new key gives its name; nil where the name stays.
	named func(string) string
}

func (m *stepManager) signer(name string) (crypto.Signer, error) {
	return m.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: m.address.forStep(name)})
}

// algorithms are step's names for ours: a signature algorithm stands for the kind of key.
var algorithms = map[hsm.Algorithm]struct {
	alg  apiv1.SignatureAlgorithm
	bits int
}{
	hsm.P256: {apiv1.ECDSAWithSHA256, 0}, hsm.P384: {apiv1.ECDSAWithSHA384, 0}, hsm.Ed25519: {apiv1.PureEd25519, 0},
	hsm.RSA2048: {apiv1.SHA256WithRSA, 2048}, hsm.RSA3072: {apiv1.SHA256WithRSA, 3072}, hsm.RSA4096: {apiv1.SHA256WithRSA, 4096},
}

func (m *stepManager) create(name string, a hsm.Algorithm) (string, error) {
	asked := m.address.forStep(name)
	if m.address.scheme.name == "awskms" { // a new key gets its id from the store; what is asked for becomes its description
		asked = "awskms:name=" + name
	}
	made, err := m.CreateKey(&apiv1.CreateKeyRequest{Name: asked, SignatureAlgorithm: algorithms[a].alg, Bits: algorithms[a].bits, ProtectionLevel: m.level()})
	if err != nil {
		return "", err
	}
	if m.named == nil {
		return name, nil
	}
	return m.named(made.Name), nil
}

// level asks Google and Azure for keys in hardware; what this costs is the account's matter, a key in software is not.
func (m *stepManager) level() apiv1.ProtectionLevel {
	if m.address.values["hsm"] == "false" {
		return apiv1.Software
	}
	return apiv1.HSM
}

func (m *stepManager) list() ([]string, error) {
	return nil, fmt.Errorf("%w: the store lists no keys; name the key in the URI", hsm.ErrUnsupported)
}

func (m *stepManager) destroy(string) error {
	return fmt.Errorf("%w: keys are destroyed with the store's own tools", hsm.ErrUnsupported)
}

func openAWS(ctx context.Context, a *Address, _ hsm.TokenInfo, _ hsm.PINSource) (manager, error) {
	m, err := awskms.New(ctx, apiv1.Options{URI: a.forStep("")})
	if err != nil {
		return nil, err
	}
	return &stepManager{m, a, attribute("key-id")}, nil
}

func openAzure(ctx context.Context, a *Address, _ hsm.TokenInfo, _ hsm.PINSource) (manager, error) {
	m, err := azurekms.New(ctx, apiv1.Options{URI: a.forStep("")})
	if err != nil {
		return nil, err
	}
	return &stepManager{m, a, nil}, nil
}

func openGoogle(ctx context.Context, a *Address, _ hsm.TokenInfo, _ hsm.PINSource) (manager, error) {
	m, err := cloudkms.New(ctx, apiv1.Options{URI: a.forStep("")})
	if err != nil {
		return nil, err
	}
	return &stepManager{m, a, opaque}, nil
}

// tpmManager adds what step's TPM store has beside the interface.
type tpmManager struct {
	*stepManager
	tpm *tpmkms.TPMKMS
}

func openTPM(ctx context.Context, a *Address, _ hsm.TokenInfo, _ hsm.PINSource) (manager, error) {
	m, err := tpmkms.New(ctx, apiv1.Options{URI: a.forStep("")})
	if err != nil {
		return nil, err
	}
	return &tpmManager{&stepManager{m, a, nil}, m}, nil
}

func (m *tpmManager) list() ([]string, error) {
	found, err := m.tpm.SearchKeys(&apiv1.SearchKeysRequest{Query: "tpmkms:ak=false"})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range found.Results {
		names = append(names, attribute("name")(r.Name))
	}
	return names, nil
}

func (m *tpmManager) destroy(name string) error {
	return m.tpm.DeleteKey(&apiv1.DeleteKeyRequest{Name: m.address.forStep(name)})
}
