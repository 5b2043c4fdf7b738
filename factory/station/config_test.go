package station

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// complete gives the example what only flags or a real line can give it.
func complete(t *testing.T) *Config {
	t.Helper()
	c, err := ParseConfig("example", Example, "/line")
	if err != nil {
		t.Fatal(err)
	}
	c.Device.ID, c.Device.HardwareID, c.Device.Token = "dev-1", "board", "pkcs11:token=board-1?module-path=/usr/lib/p11.so&pin-source=file:/run/pin"
	return c
}

// TestExample: the example in docs is the one that the program prints; it parses, and its values are the defaults.
func TestExample(t *testing.T) {
	b, err := os.ReadFile("../../docs/examples/hanaper-station.yaml")
	if err != nil || !bytes.Equal(b, Example) {
		t.Errorf("docs/examples/hanaper-station.yaml is another text (%v)", err)
	}
	c := complete(t)
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	d := defaults()
	if c.Sota != d.Sota || c.Factory.Tries != d.Factory.Tries || c.Factory.Timeout != d.Factory.Timeout || c.Device.Algorithm != d.Device.Algorithm ||
		c.Device.KeyID != d.Device.KeyID || c.Device.CertificateID != d.Device.CertificateID || c.Device.KeyStore != d.Device.KeyStore {
		t.Errorf("the example's values are not the defaults: %+v", c)
	}
	if c.Import != "/line/import" || c.Factory.Key != "/line/station.key" {
		t.Errorf("paths: %s, %s", c.Import, c.Factory.Key)
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no device id":           {func(c *Config) { c.Device.ID = "" }, "device.id is missing"},
		"slash at the end":       {func(c *Config) { c.Gateway.URL += "/" }, "gateway.url"},
		"http gateway":           {func(c *Config) { c.Gateway.URL = "http://g:1" }, "gateway.url"},
		"one Uptane root":        {func(c *Config) { c.Uptane.ImageRoot = "x" }, "only one of"},
		"two ways to roots":      {func(c *Config) { c.Uptane.ImageRoot, c.Uptane.DirectorRoot, c.Uptane.Trust = "x", "y", &TrustConfig{} }, "both trust and image_root"},
		"trust without a root":   {func(c *Config) { c.Uptane.Trust = &TrustConfig{Environment: "prod", Source: "x", State: "y"} }, "uptane.trust.root"},
		"Ed25519":                {func(c *Config) { c.Device.Algorithm = "Ed25519" }, "device.algorithm"},
		"two-byte id":            {func(c *Config) { c.Device.KeyID = "0102" }, "device.key_id"},
		"object in the token":    {func(c *Config) { c.Device.Token = "pkcs11:token=a;object=b" }, "no object"},
		"no token":               {func(c *Config) { c.Device.Token = "" }, "device.token is missing"},
		"token in file mode":     {func(c *Config) { c.Device.KeyStore = "file" }, "yet a token is given"},
		"unknown key store":      {func(c *Config) { c.Device.KeyStore = "paper" }, "device.key_store"},
		"no tries":               {func(c *Config) { c.Factory.Tries = 0 }, "factory.tries"},
		"quote in import path":   {func(c *Config) { c.Sota.ImportPath = "/a\"b" }, "sota.import_path"},
		"relative on the device": {func(c *Config) { c.Sota.ImportPath = "a" }, "sota.import_path"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := complete(t)
			c.change(conf)
			if err := conf.Check(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(Example)
	f.Add([]byte("device: {id: 1}\ndevice: {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig("fuzz", b, "/line")
		if err == nil && c.Check() == nil && c.Device.ID == "" {
			t.Errorf("%+v was taken", c)
		}
	})
}
