package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/uptane"
)

func trustAddCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "add to the draft of the officers' next part; signs nothing", ArgsUsage: "WORK",
		Description: "The first 'add' or 'remove' begins WORK after the part in force (--from, --root). Roots, CAs and their CRLs come from a ceremony: the FILE must be an artefact that 'ceremony verify' covers. " +
			"A change takes the draft's signatures away; one that was signed keeps its version, and the next has a higher one.\n\n" +
			"Example:\n  hanaper trust add --from ceremony-1/trust --root 1.root.json --gateway-name gateway.example.com work",
		Flags: append(append(beginFlags(), anchorFlags()...), append([]cli.Flag{
			&cli.StringFlag{Name: "ceremony", Usage: "the finished ceremony's `DIR` that --anchor, --ca and --crl come from; --roster, --checkpoint or --earlier says whose it is"},
			&cli.StringSliceFlag{Name: "anchor", Usage: "a Fleet Root, PEM `FILE`; may be repeated"},
			&cli.StringSliceFlag{Name: "ca", Usage: "an issuing CA, PEM `FILE`; may be repeated"},
			&cli.StringSliceFlag{Name: "crl", Usage: "a CA's CRL from the ceremony, DER or PEM `FILE`, in the place of the one before; may be repeated"},
			&cli.StringSliceFlag{Name: "freeze", Usage: "the last CRL, DER or PEM `FILE`, of a CA whose key is gone: it is used as long as the CA lasts"},
			&cli.StringSliceFlag{Name: "grace", Usage: "`CA=HOURS`: use the CRL of the CA with this id so long after its next update; 'show' has the ids"},
			&cli.StringSliceFlag{Name: "release", Usage: "`CA=SERIAL`: this revoked serial (hex) of the CA with this id may be left out of CRLs"},
			&cli.StringSliceFlag{Name: "gateway-name", Usage: "a DNS `NAME` under which devices reach the environment's gateways; may be repeated"},
			&cli.StringSliceFlag{Name: "log", Usage: "the verifier `KEY` of an issuance log, as 'hanaperd log key' prints it; may be repeated"},
			&cli.StringSliceFlag{Name: "key-type", Usage: "admit devices with keys of this `TYPE`; may be repeated"},
			&cli.IntFlag{Name: "min-rsa-bits", Usage: "the least RSA modulus of devices, in `BITS`"},
			&cli.BoolFlag{Name: "require-crl", Usage: "admit no device whose CA has no CRL"},
			&cli.BoolFlag{Name: "registered-only", Usage: "admit only devices that an operator registered before"},
			&cli.StringFlag{Name: "stage", Usage: "production or development"},
			&cli.StringFlag{Name: "shared-credentials", Usage: "`CA=TIME`: test benches may share credentials of the CA with this id until then; in development only"},
			&cli.StringFlag{Name: "director-root", Usage: "the root.json `FILE` of the Uptane Director that devices start from"},
			&cli.StringFlag{Name: "image-root", Usage: "the root.json `FILE` of the Uptane Image repository that devices start from"},
		}, expiryFlags()...)...),
		Action: func(c *cli.Context) error { return editTrust(c, addTrust) },
	}
}

// addTrust adds what the flags name.
func addTrust(c *cli.Context, t *trust.Content) error {
	if err := addFromCeremony(c, t); err != nil {
		return err
	}
	for _, path := range c.StringSlice("freeze") {
		der, ca, err := crlOf(path, t)
		if err != nil {
			return err
		}
		replaceCRL(t, ca, der)
		setRule(t, trust.CRLRule{CA: trust.IssuerID(ca).String(), Frozen: true})
	}
	for _, text := range c.StringSlice("grace") {
		ca, hours, ok := strings.Cut(text, "=")
		n, err := strconv.Atoi(hours)
		if !ok || err != nil {
			return advice.New(advice.Usage, "for example --grace ID=72", "--grace %s is not CA=HOURS", show.Text(text))
		}
		setRule(t, trust.CRLRule{CA: ca, GraceHours: n})
	}
	for _, text := range c.StringSlice("release") {
		r, err := releaseOf(text)
		if err != nil {
			return err
		}
		t.Releases = append(t.Releases, r)
	}
	p := &t.Policy
	p.GatewayNames = append(p.GatewayNames, c.StringSlice("gateway-name")...)
	p.KeyTypes = append(p.KeyTypes, c.StringSlice("key-type")...)
	for _, key := range c.StringSlice("log") {
		v, err := journal.ParseVerifierKey(key)
		if err != nil {
			return advice.Wrap(advice.Usage, err, "give the verifier key that 'hanaperd log key' prints")
		}
		p.Logs = append(p.Logs, trust.PolicyLog{Origin: v.Name(), Key: key})
	}
	if c.IsSet("min-rsa-bits") {
		p.MinRSABits = c.Int("min-rsa-bits")
	}
	p.RequireCRL = p.RequireCRL || c.Bool("require-crl")
	p.RegisteredOnly = p.RegisteredOnly || c.Bool("registered-only")
	if c.IsSet("stage") {
		p.Stage = c.String("stage")
	}
	if text := c.String("shared-credentials"); text != "" {
		ca, until, ok := strings.Cut(text, "=")
		at, err := time.Parse(timeForm, until)
		if !ok || err != nil {
			return advice.New(advice.Usage, "for example --shared-credentials ID=2027-01-31T00:00:00Z", "--shared-credentials %s is not CA=TIME", show.Text(text))
		}
		p.SharedCredentials = &trust.SharedCredentials{CA: ca, Until: at}
	}
	for flag, to := range map[string]*[]byte{"director-root": &t.Uptane.Director, "image-root": &t.Uptane.Image} {
		if path := c.String(flag); path != "" {
			root, err := readRoot(path)
			if err == nil {
				err = uptane.VerifyRoot(root)
			}
			if err != nil {
				return advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", show.Text(path), err), advice.Hint(err))
			}
			*to = root.Bytes()
		}
	}
	return nil
}

// addFromCeremony adds roots, CAs and CRLs, each of which a verified ceremony has made or taken in.
func addFromCeremony(c *cli.Context, t *trust.Content) error {
	roots, cas, crls := c.StringSlice("anchor"), c.StringSlice("ca"), c.StringSlice("crl")
	if len(roots)+len(cas)+len(crls) == 0 {
		return nil
	}
	dir := c.String("ceremony")
	if dir == "" {
		return advice.New(advice.Usage, "add --ceremony DIR and --roster DIGEST", "roots, CAs and their CRLs come from a ceremony, and none is named")
	}
	held, err := anchors(c, "")
	if err != nil {
		return err
	}
	r, err := ceremony.Verify(c.Context, input.Dir(dir), held)
	if err != nil {
		return advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", show.Text(dir), err), advice.Hint(err))
	}
	if r.Environment != t.Environment || r.Aborted {
		return advice.New(advice.Refused, "name the ceremony of this environment that made them", "%s was held for environment %s, or was aborted; this is %s", show.Text(dir), show.Text(r.Environment), show.Text(t.Environment))
	}
	covered := map[string]bool{}
	for _, name := range r.Artefacts {
		covered[string(withoutArmour(r.Artefact(name)))] = true
	}
	read := func(path string) ([]byte, error) {
		data, err := readBounded(path)
		if err != nil {
			return nil, err
		}
		der := withoutArmour(data)
		if !covered[string(der)] {
			return nil, advice.New(advice.Refused, "name an artefact of the ceremony", "%s is not among what 'ceremony verify' covers in %s", show.Text(path), show.Text(dir))
		}
		return der, nil
	}
	for _, list := range []struct {
		paths []string
		to    *[]*x509.Certificate
	}{{roots, &t.Anchors}, {cas, &t.Intermediates}} {
		for _, path := range list.paths {
			der, err := read(path)
			if err != nil {
				return err
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return advice.New(advice.Usage, "name a PEM certificate", "%s: %w", show.Text(path), err)
			}
			*list.to = append(*list.to, cert)
		}
	}
	for _, path := range crls {
		der, err := read(path)
		if err != nil {
			return err
		}
		ca, err := issuerOf(path, der, t)
		if err != nil {
			return err
		}
		replaceCRL(t, ca, der)
	}
	return nil
}

// withoutArmour takes one PEM block off; what has none, or more, stays as it is.
func withoutArmour(data []byte) []byte {
	if block, rest := pem.Decode(data); block != nil && len(bytes.TrimSpace(rest)) == 0 {
		return block.Bytes
	}
	return data
}

// crlOf reads a CRL, and finds the CA of the content that signed it.
func crlOf(path string, t *trust.Content) ([]byte, *x509.Certificate, error) {
	data, err := input.Read(path, trust.MaxCRLSize)
	if err != nil {
		return nil, nil, advice.Wrap(advice.Usage, err, "name a CRL file that you may read")
	}
	der := withoutArmour(data)
	ca, err := issuerOf(path, der, t)
	return der, ca, err
}

// issuerOf finds the CA of the draft that signed a CRL.
func issuerOf(path string, der []byte, t *trust.Content) (*x509.Certificate, error) {
	if _, err := x509.ParseRevocationList(der); err != nil {
		return nil, advice.New(advice.Usage, "name a CRL, DER or PEM", "%s: %w", show.Text(path), err)
	}
	for _, ca := range slices.Concat(t.Anchors, t.Intermediates) {
		if signedBy(der, ca) {
			return ca, nil
		}
	}
	return nil, advice.New(advice.Refused, "add its CA first", "%s is signed by no CA of the draft", show.Text(path))
}

// replaceCRL puts a CA's CRL into the place of the one before.
func replaceCRL(t *trust.Content, ca *x509.Certificate, der []byte) {
	drop(&t.CRLs, func(have []byte) bool { return signedBy(have, ca) })
	t.CRLs = append(t.CRLs, der)
}

// setRule puts what is said of a CA's CRL into the place of what was said before.
func setRule(t *trust.Content, rule trust.CRLRule) {
	dropRule(t, rule.CA)
	t.Policy.CRLs = append(t.Policy.CRLs, rule)
}
