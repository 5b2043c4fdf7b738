package station

import (
	_ "embed"
	"encoding/hex"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Example is a complete, commented configuration.
//
//go:embed hanaper-station.yaml
var Example []byte

// Config is the configuration file; Example documents every key. Read it with ParseConfig; New checks it.
type Config struct {
	Factory struct {
		URL         string        `yaml:"url"`
		CA          string        `yaml:"ca"`
		Certificate string        `yaml:"certificate"`
		Key         string        `yaml:"key"`
		Tries       int           `yaml:"tries"`
		Timeout     time.Duration `yaml:"timeout"`
		Got         string        `yaml:"got"`
		// Proxy is empty for none, "environment", or http(s)://host:port.
		Proxy            string `yaml:"proxy"`
		ProxyCredentials string `yaml:"proxy_credentials"`
	} `yaml:"factory"`
	FleetRoot string `yaml:"fleet_root"`
	Device    struct {
		ID         string `yaml:"id"`
		HardwareID string `yaml:"hardware_id"`
		Lot        string `yaml:"lot"`
		// IDPattern is a regular expression for the whole id, IDCheck "vin"; empty for none.
		IDPattern     string `yaml:"id_pattern"`
		IDCheck       string `yaml:"id_check"`
		KeyStore      string `yaml:"key_store"`
		Algorithm     string `yaml:"algorithm"`
		Token         string `yaml:"token"`
		KeyID         string `yaml:"key_id"`
		CertificateID string `yaml:"certificate_id"`
		// UptaneKeyID is empty where the device makes its Uptane key itself, outside of the token.
		UptaneKeyID     string `yaml:"uptane_key_id"`
		UptaneAlgorithm string `yaml:"uptane_algorithm"`
		// Attestation is the kind of chip that says where the key was born; empty for no evidence.
		Attestation             string   `yaml:"attestation"`
		AttestationCertificates []string `yaml:"attestation_certificates"`
		AttestationChain        string   `yaml:"attestation_chain"`
	} `yaml:"device"`
	Gateway struct {
		URL  string `yaml:"url"`
		Root string `yaml:"root"`
	} `yaml:"gateway"`
	Uptane struct {
		ImageRoot    string `yaml:"image_root"`
		DirectorRoot string `yaml:"director_root"`
		// Trust is nil where the roots are files.
		Trust *TrustConfig `yaml:"trust"`
	} `yaml:"uptane"`
	// Log is nil where no checkpoints are kept.
	Log    *LogConfig  `yaml:"log"`
	Spool  SpoolConfig `yaml:"spool"`
	Import string      `yaml:"import"`
	Sota   struct {
		ImportPath string `yaml:"import_path"`
		Module     string `yaml:"module"`
		WritePIN   bool   `yaml:"write_pin"`
		// FirstToken is "told" or "demanded".
		FirstToken string `yaml:"first_token"`
	} `yaml:"sota"`

	token                   hsm.URI
	keyID, certID, uptaneID []byte
	attestationIDs          [][]byte
}

// TrustConfig says which trust repository to follow, as a gateway's configuration does.
type TrustConfig struct {
	Environment string `yaml:"environment"`
	Source      string `yaml:"source"`
	// Root is the environment's first root.json, or its SHA-256.
	Root  string `yaml:"root"`
	State string `yaml:"state"`
	CA    string `yaml:"ca"`
}

const (
	storePKCS11 = "pkcs11"
	storeFile   = "file"
	storeTPM    = "tpm"

	firstTold, firstDemanded = "told", "demanded"
)

func defaults() Config {
	var c Config
	c.Factory.Tries, c.Factory.Timeout = 5, 30*time.Second
	c.Device.KeyStore, c.Device.Algorithm = storePKCS11, string(hsm.P256)
	c.Device.KeyID, c.Device.CertificateID = "02", "01"
	c.Device.UptaneKeyID, c.Device.UptaneAlgorithm = "03", string(hsm.RSA2048)
	c.Spool.State = "spool"
	c.Import, c.Sota.ImportPath, c.Sota.WritePIN, c.Sota.FirstToken = "import", "/var/sota/import", true, firstTold
	return c
}

// ParseConfig reads the file's bytes; dir is where its relative paths begin.
func ParseConfig(name string, data []byte, dir string) (*Config, error) {
	c := defaults()
	if err := strict.Unmarshal(name, data, &c); err != nil {
		return nil, err
	}
	paths := []*string{&c.Factory.CA, &c.Factory.Certificate, &c.Factory.Key, &c.FleetRoot, &c.Gateway.Root,
		&c.Uptane.ImageRoot, &c.Uptane.DirectorRoot, &c.Import, &c.Device.AttestationChain, &c.Factory.Got,
		&c.Factory.ProxyCredentials, &c.Spool.State, &c.Spool.Root, &c.Spool.CRL}
	if c.Log != nil {
		paths = append(paths, &c.Log.Kept)
	}
	if c.Uptane.Trust != nil {
		paths = append(paths, c.Uptane.Trust.paths()...)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return &c, nil
}

// Check parses what an enrolment needs, before any file, token or network is touched.
func (c *Config) Check() error {
	c.fill()
	if err := c.checkLine(); err != nil {
		return err
	}
	if err := present([]field{{"device.id", c.Device.ID, "give it with --device-id"}, {"device.hardware_id", c.Device.HardwareID, "give it with --hardware-id"},
		{"import", c.Import, "give it with --import"}}); err != nil {
		return err
	}
	if err := c.checkDevice(); err != nil {
		return err
	}
	return c.checkSota()
}

func bad(hint, format string, args ...any) error {
	return advice.New(advice.Usage, hint, format, args...)
}

type field struct{ key, value, hint string }

func present(fields []field) error {
	for _, f := range fields {
		if f.value == "" {
			return bad(f.hint, "%s is missing", f.key)
		}
	}
	return nil
}

// seeConfig is the hint for a setting that is missing.
const seeConfig = "see 'hanaper-station config'"

// checkFactory is what a caller of hanaperd needs.
func (c *Config) checkFactory() error {
	if c.Factory.Tries < 1 || c.Factory.Tries > 100 || c.Factory.Timeout < time.Second {
		return bad("5 tries of 30s are a good value", "factory.tries must be 1 to 100, factory.timeout at least 1s")
	}
	return present([]field{{"factory.url", c.Factory.URL, seeConfig}, {"factory.ca", c.Factory.CA, seeConfig}, {"factory.certificate", c.Factory.Certificate, seeConfig},
		{"factory.key", c.Factory.Key, seeConfig}})
}

// checkLine is what does not depend on the device.
func (c *Config) checkLine() error {
	if err := c.checkFactory(); err != nil {
		return err
	}
	if err := present([]field{{"fleet_root", c.FleetRoot, seeConfig}, {"gateway.url", c.Gateway.URL, seeConfig}, {"gateway.root", c.Gateway.Root, seeConfig},
		{"sota.import_path", c.Sota.ImportPath, seeConfig}, {"spool.state", c.Spool.State, seeConfig}}); err != nil {
		return err
	}
	if err := c.checkID(); err != nil {
		return err
	}
	if (c.Uptane.ImageRoot == "") != (c.Uptane.DirectorRoot == "") {
		return bad("aktualizr pins both or none", "uptane has only one of image_root and director_root")
	}
	if t := c.Uptane.Trust; t != nil {
		if c.Uptane.ImageRoot != "" {
			return bad("take them from trust, or from files", "uptane has both trust and image_root")
		}
		if err := present([]field{{"uptane.trust.environment", t.Environment, seeConfig}, {"uptane.trust.source", t.Source, seeConfig}, {"uptane.trust.root", t.Root, seeConfig},
			{"uptane.trust.state", t.State, seeConfig}}); err != nil {
			return err
		}
	}
	u, err := url.Parse(c.Gateway.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || strings.HasSuffix(c.Gateway.URL, "/") {
		return bad("write it as https://host:port, without a slash at the end", "gateway.url is %.100q", c.Gateway.URL)
	}
	if !filepath.IsAbs(c.Sota.ImportPath) {
		return bad("it is a path on the device", "sota.import_path %.100q", c.Sota.ImportPath)
	}
	if c.Sota.FirstToken != firstTold && c.Sota.FirstToken != firstDemanded {
		return bad("told or demanded", "sota.first_token is %.40q", c.Sota.FirstToken)
	}
	if c.Log != nil {
		if _, err := c.Log.policy(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkDevice() (err error) {
	switch hsm.Algorithm(c.Device.Algorithm) {
	case hsm.P256, hsm.RSA2048, hsm.RSA3072, hsm.RSA4096:
	default:
		return bad("P-256, RSA-2048, RSA-3072 or RSA-4096", "device.algorithm is %.40q", c.Device.Algorithm)
	}
	for _, id := range []*string{&c.Device.KeyID, &c.Device.CertificateID, &c.Device.UptaneKeyID} {
		*id = strings.ToLower(*id)
	}
	if c.keyID, err = oneByte("device.key_id", c.Device.KeyID); err != nil {
		return err
	}
	if c.certID, err = oneByte("device.certificate_id", c.Device.CertificateID); err != nil {
		return err
	}
	if err := c.checkUptaneKey(); err != nil {
		return err
	}
	if err := c.checkAttestation(); err != nil {
		return err
	}
	switch c.Device.KeyStore {
	case storeFile:
		if c.Device.Token != "" {
			return bad("leave out the token, or use key_store: pkcs11", "device.key_store is file, yet a token is given")
		}
		return nil
	case storePKCS11, storeTPM:
	default:
		return bad("pkcs11, tpm or file", "device.key_store is %.40q", c.Device.KeyStore)
	}
	if c.Device.Token == "" {
		return bad("give it with --token", "device.token is missing")
	}
	if c.token, err = hsm.ParseURI(c.Device.Token); err != nil {
		return err
	}
	if (c.token.Scheme == hsm.SchemeTPM) != (c.Device.KeyStore == storeTPM) {
		return bad("key_store: tpm takes a tpm: URI, and key_store: pkcs11 a pkcs11: one", "device.token is no URI of device.key_store %s", show.Text(c.Device.KeyStore))
	}
	if c.Device.KeyStore == storeTPM {
		if c.token.Store == "" || c.token.Object != "" || len(c.token.ID) > 0 {
			return bad("write it as tpm:token=LABEL?store=/path&pin-source=...", "device.token must name a store of TPM keys, and no object in it")
		}
		return nil
	}
	if c.token.Token == "" && c.token.Serial == "" || c.token.Object != "" || len(c.token.ID) > 0 {
		return bad("write it as pkcs11:token=LABEL?module-path=...&pin-source=...", "device.token must name a token, and no object in it")
	}
	return nil
}

// checkUptaneKey: the key that signs the device's manifests, where it is born in the token with the other one.
func (c *Config) checkUptaneKey() (err error) {
	c.uptaneID = nil
	if c.Device.KeyStore != storePKCS11 || c.Device.UptaneKeyID == "" {
		return nil
	}
	if clientKeyTypes[hsm.Algorithm(c.Device.UptaneAlgorithm)] == "" {
		return bad("RSA-2048, RSA-3072 or RSA-4096: the client signs with RSA keys in a token only", "device.uptane_algorithm is %.40q", c.Device.UptaneAlgorithm)
	}
	if c.Device.UptaneKeyID == c.Device.KeyID {
		return bad("03 for the one and 02 for the other is what the field has", "device.uptane_key_id is device.key_id")
	}
	c.uptaneID, err = oneByte("device.uptane_key_id", c.Device.UptaneKeyID)
	return err
}

// checkAttestation: what a device shows of where its key was born.
func (c *Config) checkAttestation() error {
	d := &c.Device
	c.attestationIDs = nil
	switch attest.Kind(d.Attestation) {
	case "":
		if len(d.AttestationCertificates) > 0 || d.AttestationChain != "" {
			return bad("set device.attestation to the kind of chip", "attestation certificates are named, and device.attestation is missing")
		}
		return nil
	case attest.TPM:
		if d.KeyStore != storeTPM || len(d.AttestationCertificates) > 0 || d.AttestationChain != "" {
			return bad("it needs key_store: tpm, and the certificates come from the TPM and its store", "device.attestation is tpm")
		}
		return nil
	case attest.PIV, attest.YubiHSM:
	default:
		return bad("tpm, piv or yubihsm", "device.attestation is %.40q", d.Attestation)
	}
	if d.KeyStore != storePKCS11 || len(d.AttestationCertificates) == 0 {
		return bad("it needs key_store: pkcs11 and device.attestation_certificates", "device.attestation is %s", show.Text(d.Attestation))
	}
	for _, s := range d.AttestationCertificates {
		id, err := hex.DecodeString(s)
		if err != nil || len(id) == 0 || len(id) > 32 {
			return bad("PKCS#11 ids in hex", "device.attestation_certificates: %.20q", s)
		}
		c.attestationIDs = append(c.attestationIDs, id)
	}
	return nil
}

// oneByte reads a PKCS#11 id as aktualizr takes it: two hex digits.
func oneByte(key, s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 1 {
		return nil, advice.New(advice.Usage, "aktualizr takes one byte, such as \"02\"", "%s is %.20q", key, s)
	}
	return b, nil
}
