package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

// shownToken is a token as `token show --json` tells it.
type shownToken struct {
	Token        listedToken        `json:"token"`
	Keys         []shownKey         `json:"keys"`
	Certificates []shownCertificate `json:"certificates"`
	Mechanisms   []pkcs11.Mechanism `json:"mechanisms,omitempty"`
}

// shownKey is a key in the token. One that cannot be used has no URI, no SPKI and no class, and NotUsable says why.
type shownKey struct {
	// Kind is "private key", "public key" (without a private one) or "secret key".
	Kind       string         `json:"kind"`
	URI        string         `json:"uri,omitempty"`
	ID         string         `json:"id"`
	SPKI       string         `json:"spki_sha256,omitempty"`
	Class      string         `json:"class,omitempty"`
	NotUsable  string         `json:"not_usable,omitempty"`
	Attributes hsm.Attributes `json:"attributes"`
}

type shownCertificate struct {
	Label    string `json:"label"`
	ID       string `json:"id"`
	Subject  string `json:"subject"`
	Serial   string `json:"serial"`
	NotAfter string `json:"not_after"`
	SHA256   string `json:"sha256"`
}

func tokenShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show a token's keys, their attributes, certificates, PIN tries and mechanisms",
		Description: "Example:\n  hanaper token show \"pkcs11:token=roots?module-path=/usr/lib/softhsm/libsofthsm2.so\"", ArgsUsage: "URI", HideHelpCommand: true,
		Flags: []cli.Flag{moduleFlag, pinFlag, jsonFlag,
			&cli.BoolFlag{Name: "public", Usage: "do not log in: show what the token tells anybody"}},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "URI")
			if err != nil {
				return err
			}
			u, err := hsm.ParseURI(args[0])
			if err != nil {
				return err
			}
			if u.Scheme == hsm.SchemeTPM {
				shown, err := showTPM(c, args[0])
				if err != nil {
					return err
				}
				return tellToken(c, shown)
			}
			module, err := moduleOf(c, u)
			if err != nil {
				return err
			}
			t, err := pkcs11.Open(c.Context, pkcs11.Config{Module: module, URI: u, PIN: pinOf(c, u), Public: c.Bool("public")})
			if err != nil {
				return err
			}
			defer t.Close()
			shown, err := showToken(c, t, module)
			if err != nil {
				return err
			}
			return tellToken(c, shown)
		},
	}
}

func tellToken(c *cli.Context, s *shownToken) error {
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, s)
	}
	printToken(c, s)
	return nil
}

func showToken(c *cli.Context, t *pkcs11.Token, module string) (*shownToken, error) {
	info := t.Info()
	u := info.URI().InLibrary(module)
	s := &shownToken{Token: listedToken{TokenInfo: info, URI: u.String(), Warning: info.PINWarning()},
		Keys: []shownKey{}, Certificates: []shownCertificate{}, Mechanisms: t.Mechanisms()}
	keys, err := t.KeyObjects(c.Context)
	if err != nil {
		return nil, err
	}
	for _, o := range keys {
		a := o.Attributes
		shown := shownKey{Kind: o.Kind, ID: hex.EncodeToString(a.ID), NotUsable: o.NotUsable, Attributes: a}
		if o.Key != nil {
			spki, err := x509.MarshalPKIXPublicKey(o.Key.Public())
			if err != nil {
				return nil, err
			}
			shown.URI, shown.SPKI, shown.Class = o.Key.URI().String(), hexSHA256(spki), classOf(a)
		}
		s.Keys = append(s.Keys, shown)
	}
	certs, err := t.Certificates(c.Context)
	if err != nil {
		return nil, err
	}
	for _, o := range certs {
		s.Certificates = append(s.Certificates, shownCertificate{Label: o.Label, ID: hex.EncodeToString(o.ID), Subject: o.Certificate.Subject.String(),
			Serial: o.Certificate.SerialNumber.Text(16), NotAfter: o.Certificate.NotAfter.UTC().Format(time.RFC3339), SHA256: hexSHA256(o.Certificate.Raw)})
	}
	return s, nil
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// classOf names the class whose attributes a key has, or says what protects it less than any class.
func classOf(a hsm.Attributes) string {
	for _, class := range []hsm.Class{hsm.Sealed, hsm.Backup, hsm.Restored, hsm.RestoredBackup} {
		if a.CheckFresh(class) == nil {
			return string(class)
		}
	}
	switch {
	case !a.Sensitive:
		return "OPEN (not sensitive)"
	case a.Extractable && !a.WrapWithTrusted:
		return "OPEN (extractable under any key)"
	case a.WrapWithTrusted && a.Local:
		return "backup, unextractable since"
	case a.WrapWithTrusted && !a.Extractable:
		return "restored-backup, unextractable since"
	}
	return "none"
}

func printToken(c *cli.Context, s *shownToken) {
	w, t := c.App.Writer, s.Token
	fmt.Fprintf(w, "%s\n  %s %s, hardware %s, firmware %s\n  %s\n", t.Name(), show.Text(t.Manufacturer), show.Text(t.Model), show.Text(t.Hardware), show.Text(t.Firmware), show.Text(t.URI))
	fmt.Fprintf(w, "  PIN of %d to %d bytes", t.MinPIN, t.MaxPIN)
	if t.Warning != "" {
		fmt.Fprintf(w, "; %s", show.Line(t.Warning))
	}
	fmt.Fprintln(w)
	var rows, others [][]string
	for _, k := range s.Keys {
		if k.NotUsable != "" {
			others = append(others, []string{k.Attributes.Label, k.ID, k.Kind, "not usable: " + k.NotUsable})
			continue
		}
		rows = append(rows, []string{k.Attributes.Label, k.ID, string(k.Attributes.Algorithm), k.Class, attributeWords(k.Attributes), k.SPKI[:16]})
	}
	fmt.Fprintf(w, "\nprivate keys: %d\n", len(rows))
	if len(rows) > 0 {
		shell.Table(w, []string{"LABEL", "ID", "ALGORITHM", "CLASS", "ATTRIBUTES", "SPKI SHA-256"}, rows)
	}
	if len(others) > 0 {
		fmt.Fprintf(w, "\nother keys: %d\n", len(others))
		shell.Table(w, []string{"LABEL", "ID", "KIND", "WHY"}, others)
	}
	rows = nil
	for _, o := range s.Certificates {
		rows = append(rows, []string{o.Label, o.ID, o.Subject, o.NotAfter, o.SHA256[:16]})
	}
	fmt.Fprintf(w, "\ncertificates: %d\n", len(rows))
	if len(rows) > 0 {
		shell.Table(w, []string{"LABEL", "ID", "SUBJECT", "NOT AFTER", "SHA-256"}, rows)
	}
	if s.Mechanisms == nil {
		return // a TPM
	}
	rows = nil
	for _, m := range s.Mechanisms {
		rows = append(rows, []string{m.Name, fmt.Sprintf("%d to %d", m.MinBits, m.MaxBits), strings.Join(m.Uses, " ")})
	}
	fmt.Fprintf(w, "\nmechanisms: %d\n", len(rows))
	shell.Table(w, []string{"NAME", "KEY SIZE", "USES"}, rows)
}

// attributeWords lists what is true, in PKCS#11's words.
func attributeWords(a hsm.Attributes) string {
	var words []string
	for _, w := range []struct {
		set  bool
		name string
	}{
		{a.Sensitive, "sensitive"}, {a.AlwaysSensitive, "always-sensitive"}, {a.Extractable, "EXTRACTABLE"}, {a.NeverExtractable, "never-extractable"},
		{a.Local, "local"}, {a.WrapWithTrusted, "wrap-with-trusted"}, {a.Sign, "sign"}, {a.Decrypt, "decrypt"}, {a.Derive, "derive"}, {a.Unwrap, "unwrap"},
		{a.AlwaysAuthenticate, "always-authenticate"}, {!a.Private, "PUBLIC"}, {!a.Token, "SESSION"},
	} {
		if w.set {
			words = append(words, w.name)
		}
	}
	return strings.Join(words, " ")
}
