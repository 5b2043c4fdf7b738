package ceremony

import (
	"slices"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Next says which script follows a ceremony. The script is a draft: people read it, change it, check it and approve it. What
// it pins of the folder is the folder that was verified under an anchor.
type Next struct {
	// Kind is one of NextKinds.
	Kind string
	// Ceremony is the new id; where it is empty, the last one with the number at its end counted up.
	Ceremony string
	// From is when the window begins, Days is how long it is.
	From time.Time
	Days int
	// Script is the file that will hold the script, Folder the one of the last ceremony; files are named relative to the
	// script.
	Script, Folder string
	// Officers is the roster that replaces the last one, with the approvals of that one's officers; for the first ceremony its
	// roster. Without, the last one stays.
	Officers  *NamedFile
	Approvals []NamedFile
	// Shares are files of shares that only the transcript of an aborted ceremony held.
	Shares []NamedFile
	// Inputs are files that join: requests, certificates of CAs outside, public keys of online roles. Their Use says what for.
	Inputs []NamedFile
	// Names are what the kind is about: a token, a root, certificates.
	Names []string
	// Reason and At are those of a revocation.
	Reason string
	At     time.Time
	// Without are labels or serials of tokens that people have no longer: keys that are only there are left out.
	Without []string
	// Token is the label of a token that is initialised.
	Token string
	// Keys and Threshold are how many trust keys there will be, and how many must sign.
	Keys, Threshold int
	// Manifest is the manifest of a release that is signed.
	Manifest *NamedFile
}

// NamedFile is a file with the name by which a script knows it.
type NamedFile struct {
	Name, File string
	Data       []byte
	// Use is one of NextUses, for a file of Inputs.
	Use string
}

// The uses of files that join: requests of a factory's CA, of a station, an operator, a server of the factory and of a gateway;
// certificates of a CA outside, the anchor first; public keys of the online roles of trust, called snapshot, timestamp and
// crl; and last CRLs.
const (
	UseFactory   = "factory"
	UseStation   = ca.RoleStation
	UseOperator  = ca.RoleOperator
	UsePublisher = ca.RolePublisher
	UseViewer    = ca.RoleViewer
	UseServer    = "server"
	UseGateway   = "gateway"
	// UseGatewayClient is a gateway as a caller of the factory, for renewals; UseGateway is its TLS server.
	UseGatewayClient = "gateway-client"
	UseAnchor        = "anchor"
	UseTrust         = "trust"
	// UseFreeze is the last CRL of a CA whose key is destroyed; its name is that of the CA's certificate.
	UseFreeze = "freeze"
)

// NextUses lists them.
func NextUses() []string {
	return []string{UseFactory, UseStation, UseOperator, UsePublisher, UseViewer, UseServer, UseGateway, UseGatewayClient, UseAnchor, UseTrust, UseFreeze}
}

// NextKind is a kind of script that follows.
type NextKind struct {
	Name, What string
	write      func(*draft) error
	// begins says whether there may be a last ceremony, must be one, or must be none.
	begins begins
}

// begins says where a kind stands in an environment.
type begins int

const (
	carriesOn begins = iota
	beginsOnly
	beginsToo
)

// NextKinds lists them.
func NextKinds() []NextKind {
	return []NextKind{
		{"first", "the first ceremony of an environment: a token, three roots, the trust repository", (*draft).first, beginsOnly},
		{"yearly", "what must be renewed each year: CRLs, the trust repository, Uptane roots, certificates of services", (*draft).yearly, carriesOn},
		{"officers", "an officer goes, another comes: PINs and backups are shared anew", (*draft).officers, carriesOn},
		{"restore", "a token died: its keys are restored into a new one from their backups", (*draft).restore, carriesOn},
		{"rollover", "a new Fleet Root beside the old one: two anchors and a cross-certificate", (*draft).rollover, carriesOn},
		{"retire", "an old anchor goes, with what is under it, and its key is destroyed", (*draft).retire, carriesOn},
		{"revoke", "certificates are revoked, and gateways told", (*draft).revoke, carriesOn},
		{"factory", "a factory is added: its CA is certified, and gateways told", (*draft).factory, carriesOn},
		{"anchor", "a CA outside, such as the company's, becomes an anchor beside the others", (*draft).anchor, carriesOn},
		{"trust-keys", "the officers' keys of the trust repository are replaced", (*draft).trustKeys, carriesOn},
		{"release", "the manifest of a release of Hanaper is signed; the first one makes the key, in a token of its own", (*draft).release, beginsToo},
	}
}

// NextBegins says whether a kind can be without a last ceremony, and whether it can follow one.
func NextBegins(kind string) (first, later bool) {
	i := slices.IndexFunc(NextKinds(), func(k NextKind) bool { return k.Name == kind })
	return i >= 0 && NextKinds()[i].begins != carriesOn, i >= 0 && NextKinds()[i].begins != beginsOnly
}

// WriteNext writes the script that follows the status, nil for the first of an environment.
func WriteNext(s *Status, n Next) ([]byte, error) {
	kinds := NextKinds()
	i := slices.IndexFunc(kinds, func(k NextKind) bool { return k.Name == n.Kind })
	if i < 0 {
		return nil, advice.New(advice.Usage, "see 'hanaper ceremony new --help'", "there is no kind %q", n.Kind)
	}
	if first, later := NextBegins(n.Kind); s == nil && !first || s != nil && !later {
		return nil, advice.New(advice.Usage, "name the folder of the last ceremony; the first ceremony has none", "kind %s", show.Text(n.Kind))
	}
	if !n.From.Equal(n.From.Truncate(time.Second)) || n.Days < 1 || n.Days > 31 {
		return nil, advice.New(advice.Usage, "a window is 1 to 31 days long", "%d days", n.Days)
	}
	if len(n.Inputs) > 0 && slices.Contains([]string{"officers", "restore", "release"}, n.Kind) {
		return nil, advice.New(advice.Usage, "give it to the next ceremony of another kind", "a ceremony of kind %s takes in no %s", show.Text(n.Kind), show.Text(n.Inputs[0].Use))
	}
	d := &draft{s: s, n: n, tokens: map[string]string{}, used: map[string]bool{}, inputs: map[string]bool{}, here: map[string]bool{}, pinned: map[string]string{}, imported: map[string]bool{}}
	if err := d.begin(); err != nil {
		return nil, err
	}
	if err := kinds[i].write(d); err != nil {
		return nil, err
	}
	if d.steps.Len() == 0 {
		return nil, advice.New(advice.Refused, "see 'hanaper ceremony status'", "there is nothing to do in a ceremony of kind %s", show.Text(n.Kind))
	}
	return d.text(kinds[i].What), nil
}
