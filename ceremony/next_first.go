package ceremony

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// beginFirst reads the roster of an environment that begins.
func (d *draft) beginFirst() error {
	if d.n.Officers == nil {
		return advice.New(advice.Usage, "name it with --officers", "the first ceremony needs its roster")
	}
	r, err := quorum.ParseRoster(d.n.Officers.Data)
	if err != nil {
		return err
	}
	if d.environment = r.Environment(); d.id == "" {
		d.id = d.environment + "-1"
	}
	return nil
}

// begun initialises the token of an environment, and has the officers hold its secrets.
func (d *draft) begun(label string) string {
	if d.n.Token != "" {
		label = d.n.Token
	}
	token := d.blank(label)
	d.step("init-token", &InitToken{Token: token}, "The token must be blank. Its first PINs are typed by those who keep them, until the shares replace them.")
	for _, p := range []string{"user", "so", "wrap"} {
		if p == "user" {
			d.comment("Its PINs, and the key that wraps backups, are held by the officers together: as many as must agree open them.")
		}
		d.step("hold-secret", &HoldSecret{Name: d.name(token + "-" + p), Token: token, Purpose: p})
	}
	return token
}

// first begins an environment: the names are those that officer.md has.
func (d *draft) first() error {
	token := d.begun("Fleet Roots")
	years := func(n int) string { return formatTime(d.from.AddDate(n, 0, 0)) }
	for _, r := range []struct {
		name, label string
		years       int
	}{{"fleet-root", "Fleet Root", 20}, {"operations-root", "Operations Root", 10}, {"gateway-root", "Gateway Server Root", 10}} {
		d.key(r.name+"-key", token, r.label, hsm.P384)
		d.step("root-certificate", &RootCertificate{Name: d.name(r.name), Key: r.name + "-key", Profile: r.name, Subject: SubjectConfig{CommonName: strings.ToUpper(d.environment[:1]) + d.environment[1:] + " " + r.label}, NotBefore: formatTime(d.from), NotAfter: years(r.years)})
	}
	var c renewal
	if err := d.join(&c); err != nil {
		return err
	}
	for _, r := range []string{"fleet-root", "operations-root"} {
		d.step("crl", &CRL{Name: d.name(r + "-crl"), Issuer: r, Number: 1, ThisUpdate: formatTime(d.from), NextUpdate: formatTime(d.ends)})
	}
	online := map[string]string{}
	for _, in := range d.n.Inputs {
		if in.Use == UseTrust {
			role := in.Name
			in.Name = "trust-" + role
			online[role] = d.pin(in)
		}
	}
	if len(online) == 0 {
		d.comment("Gateways are told what to believe by a trust repository: give the public keys of its online roles with --trust snapshot=FILE, timestamp=FILE and crl=FILE.")
	} else {
		for _, role := range []string{"snapshot", "timestamp", "crl"} {
			if online[role] == "" {
				return advice.New(advice.Usage, "give --trust "+role+"=FILE", "the trust repository has three online roles, and the key of %s is missing", show.Text(role))
			}
		}
		d.key("trust-root-key", token, "Trust Root", hsm.P256)
		d.key("trust-targets-key", token, "Trust Targets", hsm.P256)
		d.step("trust-repository", &TrustRepository{RootKeys: []string{"trust-root-key"}, RootThreshold: 1, TargetsKeys: []string{"trust-targets-key"}, TargetsThreshold: 1,
			Snapshot: online["snapshot"], Timestamp: online["timestamp"], CRL: online["crl"], Anchors: append([]string{"fleet-root"}, c.anchors...), Intermediates: c.intermediates,
			CRLs: []string{"fleet-root-crl"}, RootExpires: formatTime(d.ends), TargetsExpires: formatTime(d.ends)})
	}
	return nil
}

// key makes a key that is backed up.
func (d *draft) key(name, token, label string, a hsm.Algorithm) {
	d.step("generate-key", &GenerateKey{Name: d.name(name), Token: token, Label: label, Algorithm: string(a), Class: string(hsm.Backup)})
	d.step("backup-key", &BackupKey{Name: d.name(strings.TrimSuffix(name, "-key") + "-backup"), Key: name, Shares: token + "-wrap"})
}

// join certifies what joins, and takes in what CAs outside certified.
func (d *draft) join(c *renewal) error {
	above := ""
	for _, in := range d.n.Inputs {
		if in.Use == UseTrust {
			continue
		}
		if in.Use == UseFreeze {
			if d.s == nil || d.s.trust == nil {
				return advice.Wrap(advice.Refused, errNoTrust, "there is no list to freeze")
			}
			continue
		}
		if !nameForm.MatchString(in.Name) {
			return advice.New(advice.Usage, "", "name %q: use 1 to 64 of a-z, 0-9, '.' and '-'", in.Name)
		}
		base := in.Name
		if d.used[base] && in.Use != UseFactory && in.Use != UseAnchor {
			// As a renewed one is called, whose place it takes.
			base = fmt.Sprintf("%s-%d", base, d.from.Year())
		}
		name := d.name(base)
		if in.Use == UseAnchor {
			in.Name += "-pem"
			d.step("import-certificate", &ImportCertificate{Name: name, Certificate: d.pin(in), Issuer: above}, "Compare its SHA-256 with the CA outside by telephone.")
			if above == "" {
				c.anchors, above = append(c.anchors, name), name
			} else {
				c.intermediates = append(c.intermediates, name)
			}
			continue
		}
		step := &Certificate{Name: name, NotBefore: formatTime(d.from)}
		until := d.from.AddDate(1, 1, 0)
		root := "operations-root"
		switch in.Use {
		case UseFactory:
			zero := 0
			step.Profile, step.PathLength, until, root = "factory-ca", &zero, d.from.AddDate(15, 0, 0), "fleet-root"
			c.intermediates = append(c.intermediates, name)
		case UseStation:
			step.Profile, step.Station = "station", in.Name
		case UseOperator:
			step.Profile, step.Operator = "operator", in.Name
		case UsePublisher:
			step.Profile, step.Publisher = "publisher", in.Name
		case UseViewer:
			step.Profile, step.Viewer = "viewer", in.Name
		case UseGatewayClient:
			step.Profile, step.Gateway = "gateway", in.Name
		case UseServer:
			step.Profile = "server"
		case UseGateway:
			step.Profile, root = "server", "gateway-root"
		default:
			return advice.New(advice.Usage, "", "a file that joins has one of the uses %s, not %s", listed(NextUses()), show.Text(in.Use))
		}
		var err error
		if step.Issuer, until, err = d.under(root, in.Use, until); err != nil {
			return err
		}
		in.Name += "-csr"
		step.Request, step.NotAfter = d.pin(in), formatTime(until)
		d.step("certificate", step, fmt.Sprintf("For the %s %s. Compare the SHA-256 of its request with the sender by telephone.", in.Use, name))
	}
	return nil
}

// under finds the root of a profile, takes it up, and bounds until by its end.
func (d *draft) under(profile, use string, until time.Time) (string, time.Time, error) {
	if d.s == nil {
		return profile, until, nil
	}
	var can []string
	for _, i := range d.issuers() {
		if rootProfile(d.s, i.cert.name) == profile && i.cert.issuer == "" && (use != UseFactory || d.s.trust == nil || slices.Contains(d.s.trust.Anchors, i.cert.name)) {
			can = append(can, i.cert.name)
		}
	}
	name := ""
	if only := lastOf(can); len(only) == 1 {
		name = only[0]
	}
	if use == UseFactory && len(d.n.Names) == 1 && d.n.Kind == "factory" {
		name = d.n.Names[0]
	}
	i, err := d.issuerNamed(name)
	if err != nil {
		return "", until, err
	}
	if i.cert.cert.NotAfter.Before(until) {
		until = i.cert.cert.NotAfter
	}
	return name, until, d.take(i)
}

// rewrap shares the wrapping keys of backups anew and wraps every backup that opens with the old ones.
func (d *draft) rewrap(token string, next *quorum.Roster, leavers bool) error {
	renewed := map[string]string{}
	for i := range d.s.Keys {
		k := &d.s.Keys[i]
		for _, b := range slices.Clone(k.Backups) {
			if b.ReplacedBy != "" || k.State == KeyDestroyed || leavers && len(b.Shares.Gone) == 0 {
				continue
			}
			if !b.Shares.Opens {
				d.comment(fmt.Sprintf("Backup %s of key %s cannot be opened any more: back the key up anew where it is of a class that can be.", b.Name, k.Names[0]))
				continue
			}
			if token == "" {
				return advice.New(advice.Refused, "write the steps by hand: docs/spec/script.md", "no token with keys has PINs that officers hold together, and backups are wrapped anew in a token")
			}
			old, err := d.pinEarlier(b.Shares.Name, b.Shares.SHA256)
			if err != nil {
				return err
			}
			shares := renewed[b.Shares.SHA256]
			if shares == "" {
				shares = d.next(b.Shares.Name)
				renewed[b.Shares.SHA256] = shares
				// Shares replace those of the same token only; a dead token's are followed by the first ones of another.
				hold := &HoldSecret{Name: shares, Token: token, Purpose: string(quorum.PurposeWrap), Threshold: fits(b.Shares.Threshold, next)}
				if own := d.tokens[b.Shares.serial]; own != "" {
					hold.Token, hold.Previous = own, old
				}
				d.step("hold-secret", hold,
					"A new wrapping key for backups. The holders of the old shares open each backup once more, and it is wrapped anew.")
			}
			d.step("rewrap-backup", &RewrapBackup{Name: d.next(b.Name), Backup: b.Name, Shares: old, NewShares: shares, Token: token})
		}
	}
	return nil
}
