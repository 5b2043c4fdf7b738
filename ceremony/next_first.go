package ceremony

import (
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// beginFirst reads the roster of an environment that begins.
func (d *draft) beginFirst() error {
	if d.n.Officers == nil {
		return advice.New(advice.Usage, "name it with --officers; where it is not the first, name the folder of the last one behind the kind", "the first ceremony needs its roster")
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
