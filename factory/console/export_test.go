package console

import (
	"crypto/x509"
	"time"
)

// ActNames lists the acts.
func ActNames() (names []string) {
	for _, a := range (&Console{}).allActs() {
		names = append(names, a.Name)
	}
	return names
}

// Seals are the tokens of forms.
type Seals struct{ *seals }

// NewSeals makes a key for them.
func NewSeals(now func() time.Time) Seals { return Seals{newSeals(now)} }

// Make makes one, Spend uses it.
func (s Seals) Make(leaf *x509.Certificate, what [32]byte) string { return s.make(leaf, what) }

// Spend uses a token.
func (s Seals) Spend(token string, leaf *x509.Certificate, what [32]byte) error {
	return s.spend(token, leaf, what)
}

// Words of the pages.
var (
	Reason = reason
	Kind   = kind
	Span   = span
)
