package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/term"
)

var (
	storeFlag  = &cli.StringFlag{Name: "store", Usage: "of a TPM 2.0: the `FOLDER` of its keys"}
	deviceFlag = &cli.StringFlag{Name: "device", Usage: "of a TPM 2.0: its `DEVICE` or socket; without, " + tpm.DefaultDevice}
)

// onTPM says whether a verb is about a TPM and not about a PKCS#11 library.
func onTPM(c *cli.Context) bool { return c.String("store") != "" || c.String("device") != "" }

// atTPM is where the flags say that the TPM and its store are.
func atTPM(c *cli.Context) (hsm.URI, error) {
	u := hsm.URI{Scheme: hsm.SchemeTPM, Device: c.String("device")}
	if c.String("module") != "" {
		return u, advice.New(advice.Usage, "leave --module out for a TPM", "--module is of PKCS#11 tokens, --store and --device are of TPMs")
	}
	if dir := c.String("store"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return u, err
		}
		u.Store = abs
	}
	return u, nil
}

// listTPM lists the TPM, or the store in it.
func listTPM(c *cli.Context) ([]hsm.TokenInfo, hsm.URI, error) {
	u, err := atTPM(c)
	if err != nil {
		return nil, u, err
	}
	infos, err := tpmTokens(c.Context, u)
	return infos, u, err
}

// tpmTokens are the token of a store, or the TPM without one.
func tpmTokens(ctx context.Context, u hsm.URI) ([]hsm.TokenInfo, error) {
	if u.Store == "" {
		info, err := tpm.Describe(ctx, u.Device)
		return []hsm.TokenInfo{info}, err
	}
	t, err := tpm.Open(ctx, tpm.Config{URI: hsm.URI{Scheme: hsm.SchemeTPM, Device: u.Device, Store: u.Store}, Public: true})
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return []hsm.TokenInfo{t.Info()}, nil
}

// openTPM opens the store that a URI names, for who may use its keys.
func openTPM(c *cli.Context, text string) (*tpm.Token, error) {
	u, err := hsm.ParseURI(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != hsm.SchemeTPM {
		return nil, advice.New(advice.Usage, "write tpm:token=LABEL?store=/FOLDER; `hanaper token list --store FOLDER` prints it", "%s is no TPM", u.TokenURI())
	}
	return tpm.Open(c.Context, tpm.Config{URI: u, PIN: pinOf(c, u), Public: c.Bool("public")})
}

// showTPM is showToken for a TPM.
func showTPM(c *cli.Context, text string) (*shownToken, error) {
	t, err := openTPM(c, text)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	info := t.Info()
	s := &shownToken{Token: listedToken{TokenInfo: info, URI: t.URI().String(), Warning: info.PINWarning()}, Keys: []shownKey{}, Certificates: []shownCertificate{}}
	keys, err := t.KeyObjects(c.Context)
	if err != nil {
		return nil, err
	}
	for _, o := range keys {
		k := shownKey{Kind: "private key", ID: hex.EncodeToString(o.Attributes.ID), NotUsable: o.NotUsable, Attributes: o.Attributes}
		if o.Key != nil {
			spki, err := x509.MarshalPKIXPublicKey(o.Key.Public())
			if err != nil {
				return nil, err
			}
			k.URI, k.SPKI, k.Class = o.Key.URI().String(), hexSHA256(spki), classOf(o.Attributes)
		}
		s.Keys = append(s.Keys, k)
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

// initTPM makes a store, with the log of `token init`.
func initTPM(c *cli.Context) error {
	u, err := atTPM(c)
	if err != nil {
		return err
	}
	n := tpm.NewStore{Device: u.Device, Folder: u.Store, Label: c.String("label"), Persistent: c.Bool("persistent")}
	for _, flag := range []string{"blank", "so-pin-source"} {
		if c.String(flag) != "" {
			return advice.New(advice.Usage, "leave it out", "--%s is not for TPMs", flag)
		}
	}
	if n.PCRs, err = tpm.ParsePCRs(c.String("pcrs")); err != nil {
		return advice.Wrap(advice.Usage, err, "write them as --pcrs 0,2,7")
	}
	switch {
	case n.Folder == "":
		return advice.New(advice.Usage, "add --store FOLDER", "a TPM's keys need a folder")
	case n.Label == "":
		return advice.New(advice.Usage, "add --label LABEL", "the new store needs a label")
	case c.String("transcript") == "":
		return advice.New(advice.Usage, "add --transcript FILE; it is begun if it is not there", "every change of a token keeps a log, and none is named")
	}
	if err := tpm.Vacant(n.Folder); err != nil {
		return err
	}
	info, err := tpm.Describe(c.Context, n.Device)
	if err != nil {
		return err
	}
	info.Label = n.Label
	pin, err := newTPMPIN(c, info)
	if err != nil {
		return err
	}
	defer clear(pin)
	log, err := openTranscript(c.String("transcript"), n.Label)
	if err != nil {
		return err
	}
	defer log.Close()
	var made hsm.TokenInfo
	if err := change(log, changeLeaf{Kind: "token-init", Token: &info}, func(done *changeLeaf) error {
		made, err = tpm.Init(c.Context, n, pin)
		done.Token = &made
		return err
	}); err != nil {
		return err
	}
	at := made.URI().OnMachine(u)
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, listedToken{TokenInfo: made, URI: at.String()})
	}
	fmt.Fprintf(c.App.Writer, "initialised %s\n%s\nlog %s: %d entries; nobody signs it, and it proves nothing\n", made.Name(), at, c.String("transcript"), log.Size())
	if len(n.PCRs) > 0 {
		fmt.Fprintln(c.App.Writer, "Its keys are bound to how this machine starts: a new firmware or boot loader makes them useless, for good. Keep none here that you cannot replace.")
	}
	return nil
}

func newTPMPIN(c *cli.Context, info hsm.TokenInfo) ([]byte, error) {
	if file := c.String("pin-source"); file != "" {
		return pinFile(file)(c.Context, info)
	}
	return firstPIN(term.TTY(), fmt.Sprintf("New PIN of store %q: ", info.Label), info)
}
