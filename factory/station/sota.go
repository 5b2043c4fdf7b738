package station

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// What the client in the field does with sota.toml, as its public sources say, decides what may stand in it. An attacker who chooses a
// value (a hardware id, a token's serial) gets a refusal here, never a line of his own in the file:
//
//   - It reads the file as lines of "key = value" under [section], and takes the quotes off both ends of a value. There are no escapes:
//     a quote or backslash inside a value stays what it is, or is lost.
//   - It takes the first token that its module shows, whatever the label.
//   - It names keys by "pkcs11:serial=SERIAL;pin-value=PIN;id=%ID": serial and PIN stand in a URI as they are, and ids are one byte.
//   - It takes the server's CA from a file only (ca_source = "pkcs11" ends it), so root.crt is never put into the token.
//   - Its Uptane key in a token is an RSA key; it looks for the public half by id, and makes a key outside of the token if there is none.

// checkSota refuses what the client would read otherwise than it was written.
func (c *Config) checkSota() error {
	values := []struct{ key, value string }{{"sota.import_path", c.Sota.ImportPath}, {"device.hardware_id", c.Device.HardwareID}}
	if c.Device.KeyStore == storePKCS11 {
		values = append(values, struct{ key, value string }{"the PKCS#11 module's path", c.module()})
	}
	for _, v := range values {
		if !plain(v.value) {
			return advice.New(advice.Usage, "the client reads sota.toml without escapes: use printable ASCII without \" and \\", "%s is %.100q", v.key, v.value)
		}
	}
	return nil
}

func plain(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s == strings.TrimSpace(s)
}

// module is the PKCS#11 library as the device will load it.
func (c *Config) module() string {
	if c.Sota.Module != "" {
		return c.Sota.Module
	}
	return c.token.ModulePath
}

// inURI says that a byte stands in a PKCS#11 URI for itself (RFC 7512, section 2.3: unreserved, and those that an attribute may hold).
func inURI(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("-._~:[]@!$'()*+,=", c) >= 0
}

// checkSerial refuses a token that the client could not name.
func checkSerial(t hsm.TokenInfo) error {
	for _, c := range []byte(t.Serial) {
		if !inURI(c) {
			return advice.New(advice.Refused, "the client writes it into a pkcs11: URI as it is; a token with another serial number is needed",
				"the serial number of %s holds %q", t.Name(), c)
		}
	}
	if t.Serial == "" {
		return advice.New(advice.Refused, "the client names the token by it", "%s has no serial number", t.Name())
	}
	return nil
}

// sota is the client's configuration for this device.
func (f *folder) sota(ctx context.Context) ([]byte, error) {
	c := f.c
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	source, certificate, key := "file", "client.pem", "pkey.pem"
	if c.Device.KeyStore == storePKCS11 {
		// With both empty the client imports neither: it finds them in the token.
		source, certificate, key = "pkcs11", "", ""
	}
	line("# Written by hanaper-station for device %s.", show.Text(c.Device.ID))
	// %q adds nothing but the quotes: checkSota has seen to that.
	line("[tls]\nserver_url_path = %q\nca_source = \"file\"\ncert_source = %q\npkey_source = %q\n", c.Sota.ImportPath+"/gateway.url", source, source)
	if source == "pkcs11" {
		line("[p11]\nmodule = %q", c.module())
		if err := f.pin(ctx, &b); err != nil {
			return nil, err
		}
		if c.Device.UptaneKeyID != "" {
			line("uptane_key_id = %q", c.Device.UptaneKeyID)
		}
		line("tls_clientcert_id = %q\ntls_pkey_id = %q\n", c.Device.CertificateID, c.Device.KeyID)
	}
	uptane, algorithm := "file", hsm.Algorithm(c.Device.Algorithm)
	if c.uptaneID != nil {
		uptane, algorithm = "pkcs11", hsm.Algorithm(c.Device.UptaneAlgorithm)
	}
	line("[uptane]\nkey_source = %q", uptane)
	if word := clientKeyTypes[algorithm]; word != "" {
		line("key_type = %q", word)
	}
	line("\n[import]\nbase_path = %q\ntls_cacert_path = \"root.crt\"\ntls_clientcert_path = %q\ntls_pkey_path = %q\n", c.Sota.ImportPath, certificate, key)
	line("[provision]\nmode = \"DeviceCred\"\nprimary_ecu_serial = %q\nprimary_ecu_hardware_id = %q", c.Device.ID, c.Device.HardwareID)
	return b.Bytes(), nil
}

// clientKeyTypes are the client's words for the types of its Uptane key; where there is none, it takes its own default.
var clientKeyTypes = map[hsm.Algorithm]string{hsm.RSA2048: "RSA2048", hsm.RSA3072: "RSA3072", hsm.RSA4096: "RSA4096"}

// pin writes the token's PIN, which the client takes from here only, or the place for it.
func (f *folder) pin(ctx context.Context, b *bytes.Buffer) error {
	if !f.c.Sota.WritePIN || f.c.token.PINSource == "" {
		b.WriteString("# pass = \"the token's PIN\"\n")
		return nil
	}
	pin, err := hsm.PINFile(f.c.token.PINSource)(ctx, hsm.TokenInfo{Label: f.c.token.Token, Serial: f.c.token.Serial})
	if err != nil {
		return err
	}
	defer clear(pin)
	b.WriteString("pass = \"")
	for _, digit := range pin {
		if !inURI(digit) {
			return advice.New(advice.Refused, "the client puts the PIN into a pkcs11: URI as it is: give the token one of letters and digits, or set sota.write_pin to false",
				"the token's PIN holds a character that the device would read otherwise")
		}
		b.WriteByte(digit)
	}
	b.WriteString("\"\n")
	return nil
}
