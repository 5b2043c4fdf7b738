package factory

import (
	"cmp"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// ProfileConfig is a profile as a file (docs/spec/profile.md).
type ProfileConfig struct {
	// Name is what lots and hanaperd's configuration call it: 1 to 64 of a-z, 0-9, '.', '_' and '-', not device.
	Name string `yaml:"name"`
	// Days, MinimumDays and Organization are those of section devices where they are absent.
	Days         int     `yaml:"days"`
	MinimumDays  int     `yaml:"minimum_days"`
	Organization *string `yaml:"organization"`
	// KeyAlgorithms that may be certified: P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072, RSA-4096; absent: all.
	KeyAlgorithms []string `yaml:"key_algorithms"`
	// ID is the form of device ids. devices.id_pattern holds besides.
	ID *IDConfig `yaml:"id"`
	// Names are lists of names that are allowed and denied.
	Names *NamesConfig `yaml:"names"`
	// Asks says what becomes of what a request asks for beyond its CN: refuse (where nothing is said), ignore, take.
	Asks        map[string]string        `yaml:"asks"`
	Certificate ProfileCertificateConfig `yaml:"certificate"`
}

// ProfileCertificateConfig is what the certificate holds, as in the profiles of ceremonies (docs/spec/certificates.md).
type ProfileCertificateConfig struct {
	KeyUsage            []string          `yaml:"key_usage"`
	ExtKeyUsage         []string          `yaml:"ext_key_usage"`
	ExtKeyUsageCritical bool              `yaml:"ext_key_usage_critical"`
	Policies            []string          `yaml:"policies"`
	CPS                 map[string]string `yaml:"cps"`
	CRLURLs             []string          `yaml:"crl_urls"`
	OCSPURLs            []string          `yaml:"ocsp_urls"`
	IssuerURLs          []string          `yaml:"issuer_urls"`
	SignatureAlgorithm  string            `yaml:"signature_algorithm"`
	OTAConnect          bool              `yaml:"ota_connect"`
}

// NamesConfig are lists of names, in the words of step-ca's name policy.
type NamesConfig struct {
	Allow NameLists `yaml:"allow"`
	Deny  NameLists `yaml:"deny"`
}

// NameLists are names by kind: exact CNs; host names, or *.HOST for those one label below; IP addresses or prefixes; mail addresses, or @HOST;
// hosts of URIs.
type NameLists struct {
	CN    []string `yaml:"cn"`
	DNS   []string `yaml:"dns"`
	IP    []string `yaml:"ip"`
	Email []string `yaml:"email"`
	URI   []string `yaml:"uri"`
}

// What becomes of what a request asks for.
const (
	askRefuse = "refuse"
	askIgnore = "ignore"
	askTake   = "take"
)

var (
	profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	sanKinds    = []string{"dns", "ip", "email", "uri"}
)

// asked sorts the answers by what they are about. subjectAltName stands for all kinds of names that have no answer of their own.
func (c *ProfileConfig) asked() (p csr.PolicyConfig, err error) {
	asks := map[string]string{}
	for name, answer := range c.Asks {
		asks[name] = answer
	}
	if answer, ok := asks["subjectAltName"]; ok {
		delete(asks, "subjectAltName")
		for _, kind := range sanKinds {
			asks[kind] = cmp.Or(asks[kind], answer)
		}
	}
	var names []string
	for name := range asks {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !csr.Askable(name) {
			return p, advice.New(advice.Usage, "name a subject attribute (OU), a kind of name (dns, ip, email, uri), an extension, challengePassword, unstructuredName, or an object identifier", "asks: %.60q is nothing that a request can ask for", name)
		}
		switch asks[name] {
		case askRefuse:
		case askIgnore:
			p.Ignored = append(p.Ignored, name)
		case askTake:
			switch {
			case slices.Contains(sanKinds, name):
				p.SANs = append(p.SANs, name)
			case name == "keyUsage" || name == "extKeyUsage" || name == "basicConstraints":
				p.Extensions = append(p.Extensions, name)
			case csr.KnownAttribute(name):
				p.Attributes = append(p.Attributes, name)
			default:
				return p, advice.New(advice.Usage, "say ignore or refuse", "asks: %s cannot be taken: no certificate holds it", show.Text(name))
			}
		default:
			return p, advice.New(advice.Usage, "say refuse, ignore or take", "asks: %s is %.40q", show.Text(name), asks[name])
		}
	}
	return p, nil
}

// ProfileSources are what profiles are made from beside their own files.
type ProfileSources struct {
	// Evidence lets requests hold evidence of where the key was born.
	Evidence bool
	// Names makes a name policy of lists.
	Names func(NamesConfig) (NamePolicy, error)
}

// NewProfile checks a profile; what it leaves out is that of the configuration's section devices.
func (c *Config) NewProfile(pc ProfileConfig, from ProfileSources) (*Profile, error) {
	if !profileName.MatchString(pc.Name) || slices.Contains([]string{DeviceProfile, sharedProfile, benchProfile}, pc.Name) {
		return nil, advice.New(advice.Usage, "give a name of a-z, 0-9, '.', '_' and '-' that is not one of "+strings.Join([]string{DeviceProfile, sharedProfile, benchProfile}, ", "), "name %.80q is none for a profile", pc.Name)
	}
	p := &Profile{Name: pc.Name, IDs: c.ids, Days: cmp.Or(pc.Days, c.Devices.Days), MinimumDays: cmp.Or(pc.MinimumDays, c.Devices.MinimumDays), Organization: c.Devices.Organization}
	if pc.Organization != nil {
		p.Organization = *pc.Organization
	}
	if p.MinimumDays == 0 || pc.Days != 0 && pc.MinimumDays == 0 {
		p.MinimumDays = min(cmp.Or(p.MinimumDays, leastDays), p.Days)
	}
	if p.Days < 1 || p.Days > 36500 || p.MinimumDays < 1 || p.MinimumDays > p.Days {
		return nil, advice.New(advice.Usage, "give 1 to 36500 days, and no more minimum_days than days", "days is %d, minimum_days %d", p.Days, p.MinimumDays)
	}
	policy, err := pc.asked()
	if err != nil {
		return nil, err
	}
	if p.Organization != "" && slices.Contains(policy.Attributes, "O") {
		return nil, advice.New(advice.Usage, "have it ignored, or write organization: \"\"", "asks: O is to be taken, and organization sets it")
	}
	base, err := ca.BuiltinConfig("device")
	if err != nil {
		return nil, err
	}
	policy.KeyAlgorithms, policy.CommonName, policy.Evidence, policy.OneExponent = pc.KeyAlgorithms, csr.DeviceName, from.Evidence, true
	if len(policy.KeyAlgorithms) == 0 {
		policy.KeyAlgorithms = base.KeyAlgorithms
	}
	if p.Policy, err = csr.NewPolicy(policy); err != nil {
		return nil, err
	}
	if pc.ID != nil {
		if p.form, err = newIDForm(*pc.ID); err != nil {
			return nil, err
		}
	}
	if pc.Names != nil {
		if p.Names, err = from.Names(*pc.Names); err != nil {
			return nil, advice.New(advice.Usage, "see docs/spec/profile.md for how names are written", "names: %w", err)
		}
	}
	p.Certificate, err = pc.Certificate.profile(base, pc.Name, policy)
	return p, err
}

// profile is the built-in profile for devices with what the file says otherwise, and with what is taken of requests.
func (c *ProfileCertificateConfig) profile(base ca.ProfileConfig, name string, policy csr.PolicyConfig) (*ca.Profile, error) {
	base.Name, base.SANs, base.KeyAlgorithms = name, policy.SANs, policy.KeyAlgorithms
	for _, a := range policy.Attributes {
		if !slices.Contains(base.AllowedAttributes, a) {
			base.AllowedAttributes = append(slices.Clone(base.AllowedAttributes), a)
		}
	}
	if len(c.KeyUsage) > 0 {
		base.KeyUsage = c.KeyUsage
	}
	if len(c.ExtKeyUsage) > 0 {
		base.ExtKeyUsage = c.ExtKeyUsage
	}
	base.ExtKeyUsageCritical, base.Policies, base.CPS, base.CRLURLs, base.OCSPURLs = c.ExtKeyUsageCritical, c.Policies, c.CPS, c.CRLURLs, c.OCSPURLs
	base.IssuerURLs, base.SignatureAlgorithm, base.OTAConnect = c.IssuerURLs, c.SignatureAlgorithm, c.OTAConnect
	return ca.NewProfile(base)
}

// LoadProfiles reads the files that the configuration names under profiles.
func (c *Config) LoadProfiles(from ProfileSources) (profiles []*Profile, err error) {
	names := []string{DeviceProfile}
	for _, path := range c.Profiles {
		var pc ProfileConfig
		if err := strict.ReadFile(path, &pc); err != nil {
			return nil, err
		}
		p, err := c.NewProfile(pc, from)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, inFile(path, err), advice.Hint(err))
		}
		if slices.Contains(names, p.Name) {
			return nil, advice.New(advice.Usage, "give each profile a name of its own", "%s: another file has the name %s too", show.Text(path), show.Text(p.Name))
		}
		names, profiles = append(names, p.Name), append(profiles, p)
	}
	if want := c.Devices.Profile; want != "" && !slices.Contains(names, want) {
		return nil, advice.New(advice.Usage, "name its file under profiles, or one of "+strings.Join(names, ", "), "devices.profile is %.80q, and no file has a profile of this name", want)
	}
	return profiles, nil
}

type fileError struct {
	path string
	error
}

func (e fileError) Error() string { return show.Text(filepath.Base(e.path)) + ": " + e.error.Error() }
func (e fileError) Unwrap() error { return e.error }

func inFile(path string, err error) error { return fileError{path, err} }
