// Package calendar finds every date on which something of an environment ends: certificates, CRLs, the metadata of trust
// and Uptane, the yearly check of officers' cards. It writes them as a list and for calendar programs (RFC 5545).
//
// It trusts nothing and verifies no signature: an attacker who can change the files can make it show wrong dates, or hide
// one. What the dates are of is checked where it is used; of a ceremony's folder, package ceremony verifies the files before it
// hands them over. Files that it cannot read as what their name says are refused,
// not left out.
package calendar

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/quorum"
)

// Entry is a date on which something ends.
type Entry struct {
	// Expires is in UTC.
	Expires time.Time `json:"expires"`
	// Kind is certificate, crl, metadata or card.
	Kind string `json:"kind"`
	// What it is, in plain words.
	What        string `json:"what"`
	Environment string `json:"environment,omitempty"`
	// File is where it was found first.
	File string `json:"file,omitempty"`
	// Note is Revoked for a certificate that the newest CRL of its issuer lists, "never checked" for a card; of a ceremony's
	// folder also Renewed, or why nothing will take the place of what ends, such as "its key is destroyed".
	Note string `json:"note,omitempty"`
	// UID is the same whenever the same thing is found again; what takes its place (the next CRL, the next version of
	// metadata) has it too.
	UID string `json:"uid"`
	// Version counts up with what takes its place; 0 for what nothing replaces.
	Version int64 `json:"version,omitempty"`

	certificate *x509.Certificate
	crl         *x509.RevocationList
	// digest is that of metadata, which may lie in several folders.
	digest [32]byte
}

// Notes of what may end without anybody doing anything.
const (
	Revoked = "revoked"
	// Renewed is for a certificate in whose place there is a later one.
	Renewed = "renewed"
)

// Certificate is the certificate that ends; nil for another kind.
func (e Entry) Certificate() *x509.Certificate { return e.certificate }

// CRL is the list that ends; nil for another kind.
func (e Entry) CRL() *x509.RevocationList { return e.crl }

// uid makes a stable id of what something is.
func uid(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16]) + "@hanaper"
}

// Merge joins what several folders hold: of what has a UID in common the highest version stays, certificates that the
// newest CRL of their issuer lists are noted as revoked, and all is sorted by date.
func Merge(lists ...[]Entry) []Entry {
	newest := map[string]int{}
	var all []Entry
	for _, e := range slices.Concat(lists...) {
		i, ok := newest[e.UID]
		switch {
		case !ok:
			newest[e.UID] = len(all)
			all = append(all, e)
		case newer(e, all[i]):
			all[i] = e
		case !newer(all[i], e):
			// The same thing in two folders: what either knows of it holds.
			if e.Note == "" {
				e.Note = all[i].Note
			}
			if all[i].Note = e.Note; len(e.File) < len(all[i].File) {
				all[i] = e
			}
		}
	}
	copies := map[[32]byte]bool{{}: false}
	all = slices.DeleteFunc(all, func(e Entry) bool {
		again := copies[e.digest]
		copies[e.digest] = e.digest != [32]byte{}
		return again
	})
	for i, e := range all {
		if e.certificate == nil {
			continue
		}
		for _, c := range all {
			if c.crl != nil && issued(c.crl, e.certificate) && listed(c.crl, e.certificate.SerialNumber) {
				all[i].Note = Revoked
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Entry) int {
		if c := a.Expires.Compare(b.Expires); c != 0 {
			return c
		}
		return strings.Compare(a.Kind+a.What+a.UID, b.Kind+b.What+b.UID)
	})
	return all
}

// newer says whether a takes the place of b.
func newer(a, b Entry) bool {
	if a.crl != nil && b.crl != nil {
		return a.crl.Number.Cmp(b.crl.Number) > 0
	}
	return a.Version > b.Version
}

func issued(crl *x509.RevocationList, c *x509.Certificate) bool {
	return string(crl.RawIssuer) == string(c.RawIssuer) && string(crl.AuthorityKeyId) == string(c.AuthorityKeyId)
}

func listed(crl *x509.RevocationList, serial *big.Int) bool {
	return slices.ContainsFunc(crl.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(serial) == 0 })
}

// Within leaves out what ends later than d after now.
func Within(list []Entry, now time.Time, d time.Duration) []Entry {
	limit := now.Add(d)
	return slices.DeleteFunc(slices.Clone(list), func(e Entry) bool { return e.Expires.After(limit) })
}

// Cards gives the date on which everybody's next card check is due: maxAge after the last, or after the roster was
// issued for those never checked.
func Cards(r *quorum.Roster, cards []quorum.Card, maxAge time.Duration) []Entry {
	var list []Entry
	for _, c := range cards {
		e := Entry{Kind: "card", What: "card check of " + c.Officer.Name + " (" + string(c.Officer.Role) + ")", Environment: r.Environment(),
			UID: uid("card", r.Environment(), c.Officer.KeyID)}
		if c.Checked.IsZero() {
			e.Expires, e.Note = r.Issued().Add(maxAge).UTC(), "never checked"
		} else {
			e.Expires, e.Version = c.Checked.Add(maxAge).UTC(), c.Checked.Unix()
		}
		list = append(list, e)
	}
	return list
}
