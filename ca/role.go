package ca

import (
	"crypto/x509"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
)

// The roles that RoleOf knows: of those who speak to the factory and to the Uptane server.
const (
	// RoleStation enrols devices.
	RoleStation = "station"
	// RoleOperator reads everything, revokes, and accepts a store that was restored.
	RoleOperator = "operator"
	// RolePublisher reads what is published: CRLs, CA certificates, checkpoints.
	RolePublisher = "publisher"
	// RoleViewer reads what an operator reads, and changes nothing.
	RoleViewer = "viewer"
	// RoleGateway hands on what devices that it admitted ask: a renewal of their own certificates, and nothing else.
	RoleGateway = "gateway"
)

// Roles lists them.
func Roles() []string {
	return []string{RoleStation, RoleOperator, RolePublisher, RoleViewer, RoleGateway}
}

const rolePrefix = "urn:hanaper:"

var roleName = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z`)

// StationURI is urn:hanaper:station:NAME, OperatorURI urn:hanaper:operator:NAME.
func StationURI(name string) *url.URL  { return RoleURI(RoleStation, name) }
func OperatorURI(name string) *url.URL { return RoleURI(RoleOperator, name) }

// RoleURI is urn:hanaper:ROLE:NAME. A name that is not 1 to 64 letters, digits, dots, underscores and hyphens makes a
// URI that Prepare refuses.
func RoleURI(role, name string) *url.URL {
	return &url.URL{Scheme: "urn", Opaque: "hanaper:" + role + ":" + name}
}

// RoleOf reads the role and name in a certificate's URIs: exactly one URI,
// urn:hanaper:ROLE:NAME. It says nothing about who issued the certificate: verify the chain first.
func RoleOf(cert *x509.Certificate) (role, name string, err error) {
	if cert == nil || len(cert.URIs) != 1 {
		n := 0
		if cert != nil {
			n = len(cert.URIs)
		}
		return "", "", noRole("it has %d URIs, wants the one of its role", n)
	}
	return parseRole(cert.URIs[0].String())
}

func parseRole(s string) (role, name string, err error) {
	rest, ok := strings.CutPrefix(s, rolePrefix)
	role, name, found := strings.Cut(rest, ":")
	if !ok || !found || !slices.Contains(Roles(), role) || !roleName.MatchString(name) {
		return "", "", noRole("%.80q names none of the roles "+strings.Join(Roles(), ", "), s)
	}
	return role, name, nil
}

func isRoleURI(u *url.URL) bool {
	return strings.HasPrefix(strings.ToLower(u.String()), rolePrefix)
}

func noRole(format string, args ...any) error {
	return advice.New(advice.Refused, "use a certificate of profile station, operator, publisher, viewer or gateway, issued under the operations root",
		"ca: certificate has no role: "+format, args...)
}
