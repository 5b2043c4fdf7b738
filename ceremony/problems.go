package ceremony

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/ceremony/calendar"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// noted adds to dates what a calendar alone cannot know: that nothing will take the place of what ends.
func (f *inventory) noted(list []calendar.Entry) []calendar.Entry {
	for i, e := range list {
		if e.Note != "" {
			continue
		}
		if c := e.Certificate(); c != nil && f.renewed(c) {
			list[i].Note = calendar.Renewed
			continue
		}
		var key []byte
		if c := e.Certificate(); c != nil && c.IsCA {
			key = c.RawSubjectPublicKeyInfo
		} else if l := e.CRL(); l != nil {
			for _, c := range f.crls {
				if c.crl != nil && string(c.crl.Raw) == string(l.Raw) {
					key = c.issuer.RawSubjectPublicKeyInfo
				}
			}
		}
		for _, k := range f.keys {
			if key != nil && k.Fingerprint == hexSHA256(key) && (k.State == KeyDestroyed || k.State == KeyLost) {
				list[i].Note = "its key is " + k.State
			}
		}
	}
	return list
}

// renewed says whether a later certificate has taken the place of an end entity's: by the same CA, for the same subject.
func (f *inventory) renewed(c *x509.Certificate) bool {
	return !c.IsCA && slices.ContainsFunc(f.certs, func(o *heldCert) bool {
		return string(o.cert.RawSubject) == string(c.RawSubject) && string(o.cert.RawIssuer) == string(c.RawIssuer) && o.cert.NotBefore.After(c.NotBefore) && o.cert.NotAfter.After(c.NotAfter)
	})
}

// problems says what officers should do something about.
func (f *inventory) problems() {
	say := func(text string, args ...any) {
		f.status.Problems = append(f.status.Problems, fmt.Sprintf(text, args...))
	}
	for _, t := range f.status.Tokens {
		if len(t.Keys) == 0 {
			continue
		}
		for _, p := range t.pins() {
			p.problems(t, say)
		}
	}
	f.sayWithheld(say)
	for _, k := range f.status.Keys {
		k.problems(say)
	}
}

func (p heldPIN) problems(t StatusToken, say func(string, ...any)) {
	what := map[quorum.Purpose]string{quorum.PurposeUser: "user PIN", quorum.PurposeSO: "security officer PIN"}[p.purpose]
	switch s := p.shares; {
	case !s.Opens:
		say("the %s of token %s cannot be put together any more: %d shares are needed, and of their holders only %s are in the roster", what, show.Text(t.Label), s.Threshold, listed(s.Holders))
	case len(s.Gone) >= s.Threshold:
		say("the %s of token %s can be put together by people who have left: %s. Share it anew (hold-secret)", what, show.Text(t.Label), listed(s.Gone))
	case len(s.Gone) > 0:
		say("%s left the roster and still holds a share of the %s of token %s: share it anew (hold-secret)", listed(s.Gone), what, show.Text(t.Label))
	}
}

func (k StatusKey) problems(say func(string, ...any)) {
	name := show.Text(k.Names[0])
	for _, c := range k.Copies {
		if c.Left {
			say("key %s was left in token %s by the aborted ceremony %s: have it destroyed before witnesses", show.Text(c.Name), show.Text(c.Token), show.Text(c.Ceremony))
		}
	}
	for _, b := range k.Backups {
		switch {
		case b.ReplacedBy != "":
			if len(b.Shares.Gone) >= b.Shares.Threshold {
				say("backup %s of key %s, which %s replaced, can still be opened by people who have left, who need a copy of it: %s", show.Text(b.Name), name, show.Text(b.ReplacedBy), listed(b.Shares.Gone))
			}
		case !b.Shares.Opens:
			say("backup %s of key %s opens with %d shares, and of their holders only %s are in the roster: back the key up anew", show.Text(b.Name), name, b.Shares.Threshold, listed(b.Shares.Holders))
		case len(b.Shares.Gone) > 0:
			say("%s left the roster and still holds a share of backup %s of key %s: wrap it anew (rewrap-backup)", listed(b.Shares.Gone), show.Text(b.Name), name)
		}
	}
	if k.State == KeyLost {
		say("key %s is LOST: it is in no token, and no backup of it can be opened", name)
	}
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return show.List(names)
}
