package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
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

func trustRemoveCommand() *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "remove from the draft of the officers' next part; signs nothing", ArgsUsage: "WORK",
		Description: "A CA takes its CRL, its rules and its releases with it. 'show' has the ids.\n\n" +
			"Example:\n  hanaper trust remove --from ceremony-1/trust --root 1.root.json --key-type RSA work",
		Flags: append(beginFlags(), append([]cli.Flag{
			&cli.StringSliceFlag{Name: "anchor", Usage: "a Fleet Root, PEM `FILE` or id; may be repeated"},
			&cli.StringSliceFlag{Name: "ca", Usage: "an issuing CA, PEM `FILE` or id; may be repeated"},
			&cli.StringSliceFlag{Name: "rule", Usage: "what was said about the CRL of the CA with this `ID` (grace, freeze)"},
			&cli.StringSliceFlag{Name: "release", Usage: "`CA=SERIAL` of a release"},
			&cli.StringSliceFlag{Name: "gateway-name", Usage: "a gateway's `NAME`"},
			&cli.StringSliceFlag{Name: "log", Usage: "the `ORIGIN` of an issuance log"},
			&cli.StringSliceFlag{Name: "key-type", Usage: "a `TYPE` of devices' keys"},
			&cli.BoolFlag{Name: "require-crl", Usage: "no longer ask for a CRL of every CA"},
			&cli.BoolFlag{Name: "registered-only", Usage: "admit devices that nobody registered before"},
			&cli.BoolFlag{Name: "stage", Usage: "no longer say a stage: it is production"},
			&cli.BoolFlag{Name: "shared-credentials", Usage: "end the leave for shared credentials"},
			&cli.BoolFlag{Name: "director-root", Usage: "the Uptane Director's root"},
			&cli.BoolFlag{Name: "image-root", Usage: "the Uptane Image repository's root"},
		}, expiryFlags()...)...),
		Action: func(c *cli.Context) error { return editTrust(c, removeTrust) },
	}
}

func beginFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "from", Usage: "begin WORK after the officers' part in this `FOLDER`: a ceremony's trust/, or what hanaper-repo publishes"},
		rootPinFlag(false),
	}
}

// editTrust opens or begins a working folder, and lays its draft out anew with what change makes of its content.
func editTrust(c *cli.Context, change func(*cli.Context, *trust.Content) error) error {
	args, pin, now, err := trustArgs(c, "WORK")
	if err != nil {
		return err
	}
	if _, err := os.Lstat(args[0]); err == nil {
		unlock, err := lockWork(args[0])
		if err != nil {
			return err
		}
		defer unlock()
	}
	w, content, expires, fresh, err := editable(c, args[0], pin, now)
	if err != nil {
		return err
	}
	if c.IsSet("expires") || c.IsSet("expire-after") {
		if expires, err = expiryOf(c, uptane.Period{}); err != nil {
			return err
		}
	}
	if err := change(c, &content); err != nil {
		return err
	}
	content.Policy = content.Policy.WithFormat()
	signed := 0
	prev := w.previousPart
	if w.work.draft != nil {
		signed = len(w.work.draft.Standing().Signed)
		content.UsedTargets = w.work.draft.Version() - 1
		if signed > 0 {
			content.UsedTargets++
		}
	}
	if w.work.draft, err = trust.NewDraft(prev, content, expires, now); err != nil {
		return err
	}
	if fresh {
		err = w.work.begin()
	} else {
		err = w.work.keepDraft()
	}
	if err != nil {
		return err
	}
	if signed > 0 {
		fmt.Fprintf(c.App.ErrWriter, "hanaper: the draft had %d signatures; they were for version %d, and this is version %d\n", signed, w.work.draft.Version()-1, w.work.draft.Version())
	}
	tellDraft(c.App.Writer, w.work)
	return nil
}

// edited is a folder whose draft is to be laid out anew.
type edited struct {
	*work
	previousPart *trust.Repository
}

// editable is the folder, the content of its draft, and until when that is good; or a new folder, with the part in force.
func editable(c *cli.Context, dir string, pin *trust.Pin, now time.Time) (*edited, trust.Content, time.Time, bool, error) {
	fail := func(err error) (*edited, trust.Content, time.Time, bool, error) {
		return nil, trust.Content{}, time.Time{}, false, err
	}
	from := c.String("from")
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		if from != "" {
			return fail(advice.New(advice.Refused, "leave --from out, or name a folder that does not exist", "%s is there already", show.Text(dir)))
		}
		w, err := openWork(dir, pin, now)
		if err != nil {
			return fail(err)
		}
		next, err := w.draft.Files()
		if err != nil {
			return fail(err)
		}
		content, err := w.draft.Next().Content(next)
		return &edited{w, w.draft.Previous()}, content, w.draft.Expires(), false, err
	}
	if from == "" || pin == nil {
		return fail(advice.New(advice.Usage, "add --from FOLDER (a ceremony's trust/, or what hanaper-repo publishes) and --root, which you keep", "there is no %s to go on with", show.Text(dir)))
	}
	files := input.Dir(from)
	prev, err := trust.OpenRepository(files, *pin, now)
	if err != nil {
		return fail(advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", show.Text(from), err), advice.Hint(err)))
	}
	part, err := prev.Part(files)
	if err != nil {
		return fail(err)
	}
	content, err := prev.Content(part)
	return &edited{&work{dir: filepath.Clean(dir), pin: *pin, previous: part}, prev}, content, prev.Expires(), true, err
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
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, advice.New(advice.Usage, "name a CRL, DER or PEM", "%s: %w", show.Text(path), err)
	}
	for _, ca := range slices.Concat(t.Anchors, t.Intermediates) {
		if bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
			return ca, nil
		}
	}
	return nil, advice.New(advice.Refused, "add its CA first", "%s is signed by no CA of the draft", show.Text(path))
}

// replaceCRL puts a CA's CRL into the place of the one before.
func replaceCRL(t *trust.Content, ca *x509.Certificate, der []byte) {
	t.CRLs = append(slices.DeleteFunc(t.CRLs, func(have []byte) bool {
		list, err := x509.ParseRevocationList(have)
		return err == nil && bytes.Equal(list.RawIssuer, ca.RawSubject) && list.CheckSignatureFrom(ca) == nil
	}), der)
}

func setRule(t *trust.Content, rule trust.CRLRule) {
	dropRule(t, rule.CA)
	t.Policy.CRLs = append(t.Policy.CRLs, rule)
}

func dropRule(t *trust.Content, ca string) bool {
	n := len(t.Policy.CRLs)
	t.Policy.CRLs = slices.DeleteFunc(t.Policy.CRLs, func(r trust.CRLRule) bool { return r.CA == ca })
	return len(t.Policy.CRLs) < n
}

func releaseOf(text string) (trust.Release, error) {
	ca, serial, _ := strings.Cut(text, "=")
	id, err := trust.ParseID(ca)
	n, ok := new(big.Int).SetString(serial, 16)
	if err != nil || !ok {
		return trust.Release{}, advice.New(advice.Usage, "for example --release ID=1a2b", "--release %s is not CA=SERIAL", show.Text(text))
	}
	return trust.Release{Issuer: id, Serial: n}, nil
}

// removeTrust removes what the flags name; what is not there is a mistake.
func removeTrust(c *cli.Context, t *trust.Content) error {
	missing := func(flag, what string) error {
		return advice.New(advice.Usage, "'hanaper trust show' says what there is", "--%s %s: the draft has none such", show.Text(flag), show.Text(what))
	}
	for flag, list := range map[string]*[]*x509.Certificate{"anchor": &t.Anchors, "ca": &t.Intermediates} {
		for _, name := range c.StringSlice(flag) {
			if !dropCA(t, list, name) {
				return missing(flag, name)
			}
		}
	}
	p := &t.Policy
	for _, ca := range c.StringSlice("rule") {
		if !dropRule(t, ca) {
			return missing("rule", ca)
		}
	}
	for _, text := range c.StringSlice("release") {
		r, err := releaseOf(text)
		if err != nil {
			return err
		}
		n := len(t.Releases)
		if t.Releases = slices.DeleteFunc(t.Releases, func(o trust.Release) bool { return o.Issuer == r.Issuer && o.Serial.Cmp(r.Serial) == 0 }); len(t.Releases) == n {
			return missing("release", text)
		}
	}
	for flag, list := range map[string]*[]string{"gateway-name": &p.GatewayNames, "key-type": &p.KeyTypes} {
		for _, name := range c.StringSlice(flag) {
			n := len(*list)
			if *list = slices.DeleteFunc(*list, func(o string) bool { return o == name }); len(*list) == n {
				return missing(flag, name)
			}
		}
	}
	for _, origin := range c.StringSlice("log") {
		n := len(p.Logs)
		if p.Logs = slices.DeleteFunc(p.Logs, func(l trust.PolicyLog) bool { return l.Origin == origin }); len(p.Logs) == n {
			return missing("log", origin)
		}
	}
	for flag, off := range map[string]func(){
		"require-crl": func() { p.RequireCRL = false }, "registered-only": func() { p.RegisteredOnly = false }, "stage": func() { p.Stage = "" },
		"shared-credentials": func() { p.SharedCredentials = nil }, "director-root": func() { t.Uptane.Director = nil }, "image-root": func() { t.Uptane.Image = nil },
	} {
		if c.Bool(flag) {
			off()
		}
	}
	return nil
}

// dropCA removes a certificate, by its file or its id, and what was said of its CA if no other certificate of it stays.
func dropCA(t *trust.Content, list *[]*x509.Certificate, name string) bool {
	gone := func(*x509.Certificate) bool { return false }
	if id, err := trust.ParseID(name); err == nil {
		gone = func(c *x509.Certificate) bool { return trust.IssuerID(c) == id }
	} else if data, err := readBounded(name); err == nil {
		der := withoutArmour(data)
		gone = func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) }
	}
	var removed []*x509.Certificate
	*list = slices.DeleteFunc(*list, func(c *x509.Certificate) bool {
		if gone(c) {
			removed = append(removed, c)
		}
		return gone(c)
	})
	for _, ca := range removed {
		id := trust.IssuerID(ca)
		if slices.ContainsFunc(slices.Concat(t.Anchors, t.Intermediates), func(c *x509.Certificate) bool { return trust.IssuerID(c) == id }) {
			continue
		}
		dropRule(t, id.String())
		t.Releases = slices.DeleteFunc(t.Releases, func(r trust.Release) bool { return r.Issuer == id })
		t.CRLs = slices.DeleteFunc(t.CRLs, func(der []byte) bool {
			crl, err := x509.ParseRevocationList(der)
			return err == nil && bytes.Equal(crl.RawIssuer, ca.RawSubject) && crl.CheckSignatureFrom(ca) == nil
		})
		if t.Policy.SharedCredentials.IssuedBy(id) {
			t.Policy.SharedCredentials = nil
		}
	}
	return len(removed) > 0
}
