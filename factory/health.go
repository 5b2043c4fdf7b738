package factory

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

const (
	// probeEvery is how often token and store are tried where nobody else does; probeTime is how long each may take.
	probeEvery = 10 * time.Second
	probeTime  = 5 * time.Second
	// probeSick is how soon they are tried again after they failed.
	probeSick = time.Second
)

// warnAhead are the times before an end at which the log says that it comes; probes fail only after it has.
var warnAhead = []time.Duration{24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour}

// Expiry is something that ends, and what to do before.
type Expiry struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
	// Hint says what to do about it.
	Hint string `json:"hint"`
	// renewed is true for what hanaperd renews by itself: it is told of only when that does not happen.
	renewed bool
}

// vitals are what the probes found last.
type vitals struct {
	mu    sync.Mutex
	store string
	token string
	// said is what the log has said of the last probe.
	said map[string]bool
	// warned holds, by an expiry's name and end, the shortest time ahead that the log has told of.
	warned map[string]time.Duration
}

// probe tries what enrolment needs: a write of its own in the store, and a signature of each issuing CA. It takes no longer than
// probeTime for each, also where a token hangs.
func (s *Service) probe(ctx context.Context) (well bool) {
	one, cancel := context.WithTimeout(ctx, probeTime)
	err := s.c.Store.Probe(one)
	cancel()
	if ctx.Err() != nil {
		return true
	}
	store, said := "", map[string]error{}
	if err != nil {
		store, said["the store takes no writes"] = "takes no writes", err
		if errors.Is(err, record.ErrDamaged) {
			s.damaged(err)
		}
	}
	var silent []string
	for _, by := range s.issuers {
		working := 0
		for _, k := range by.keys {
			one, cancel := context.WithTimeout(ctx, probeTime)
			err := k.Probe(one)
			cancel()
			if ctx.Err() != nil {
				return true
			}
			if k.note(err); err == nil {
				working++
				continue
			}
			said["a token with the key of "+by.cert.Subject.String()+" does not sign"] = err
		}
		if working < len(by.keys) {
			silent = append(silent, fmt.Sprintf("%d of %d keys of %q sign", working, len(by.keys), by.cert.Subject.CommonName))
		}
	}
	s.vitals.mu.Lock()
	defer s.vitals.mu.Unlock()
	s.vitals.store, s.vitals.token = store, strings.Join(silent, "; ")
	s.storeDown.Store(store != "")
	if len(silent) == 0 {
		s.tokenDown.Store(false)
	}
	for what, err := range said {
		if !s.vitals.said[what] {
			s.c.Log.Error(what, "error", err)
		}
	}
	for what := range s.vitals.said {
		if said[what] == nil {
			s.c.Log.Info("no longer: " + what)
		}
	}
	s.vitals.said = map[string]bool{}
	for what := range said {
		s.vitals.said[what] = true
	}
	return len(said) == 0
}

// expiries lists what ends.
func (s *Service) expiries() []Expiry {
	var all []Expiry
	for _, by := range s.issuers {
		all = append(all, Expiry{Name: fmt.Sprintf("the issuing certificate %q", by.cert.Subject.CommonName), At: by.cert.NotAfter.UTC(),
			Hint: "have the ceremony issue it a new one, and put that where the configuration says"})
		for _, above := range by.Chain[1:] {
			all = append(all, Expiry{Name: fmt.Sprintf("the certificate %q above it", above.Subject.CommonName), At: above.NotAfter.UTC(), Hint: "have the ceremony issue a new one"})
		}
		if c := by.crl.Load(); c != nil {
			all = append(all, Expiry{Name: fmt.Sprintf("the CRL of %q", by.cert.Subject.CommonName), At: c.NextUpdate.UTC(),
				Hint: "a fresh one is signed by itself while token, store and clock are well: look at those", renewed: true})
		}
	}
	if s.c.Expiries != nil {
		all = append(all, s.c.Expiries()...)
	}
	return all
}

// watchExpiries has the log tell of each end 30, 7 and 1 days ahead, once each.
func (s *Service) watchExpiries() {
	now := s.clock.best()
	s.vitals.mu.Lock()
	defer s.vitals.mu.Unlock()
	if s.vitals.warned == nil {
		s.vitals.warned = map[string]time.Duration{}
	}
	for _, e := range s.expiries() {
		left := e.At.Sub(now)
		for _, ahead := range warnAhead {
			if left > ahead || e.renewed && left > s.c.CRLRefresh/2 {
				continue
			}
			key := e.Name + " " + stamp(e.At)
			if was, ok := s.vitals.warned[key]; ok && was <= ahead {
				break
			}
			s.vitals.warned[key] = ahead
			s.c.Log.Warn(e.Name+" ends soon", "at", stamp(e.At), "days_left", int(left/(24*time.Hour)), "do", e.Hint)
			break
		}
	}
}

// Words tell it in one line, for people.
func (h Health) Words() string {
	words := []string{h.Status}
	for _, part := range []struct{ name, state string }{{"token", h.Token}, {"store", h.Store}, {"clock", h.Clock}, {"log", h.Log}} {
		if part.state != "" && part.state != "ok" {
			words = append(words, part.name+": "+part.state)
		}
	}
	return strings.Join(append(words, h.Notes...), "; ")
}

// Live says that the process answers: all that a supervisor may restart it for.
func (s *Service) Live() Health { return Health{Status: "ok"} }

// Health tells whether a new device would be enrolled now, and everything that stands in the way or soon will. It asks the store, and reads
// what the probes found last.
func (s *Service) Health(ctx context.Context) Health {
	h := Health{Status: "ok", Token: "ok", Store: "ok", Clock: "ok"}
	degrade := func(where *string, words string) {
		h.Status, *where = "degraded", words
	}
	s.vitals.mu.Lock()
	token, store := s.vitals.token, s.vitals.store
	s.vitals.mu.Unlock()
	switch {
	case s.tokenDown.Load():
		degrade(&h.Token, "the last signature failed")
	case token != "":
		degrade(&h.Token, token)
	}
	if s.c.TokenHealth != nil {
		if err := s.c.TokenHealth(); err != nil {
			degrade(&h.Token, err.Error())
		}
	}
	switch {
	case store != "":
		degrade(&h.Store, store)
	case s.storeDown.Load():
		degrade(&h.Store, "the last write failed")
	}
	damage := s.damage.Load()
	if err := s.answers(ctx); err != nil && damage == nil {
		degrade(&h.Store, "does not answer")
	} else if damage != nil {
		degrade(&h.Store, "damaged: "+*damage)
	} else if why, err := s.c.Store.Holding(ctx); err == nil && why != "" {
		degrade(&h.Store, "held: "+why)
	}
	if s.c.IssuanceLog != nil {
		if h.Log = s.c.IssuanceLog.Trouble(); h.Log != "" {
			h.Status = "degraded"
		} else {
			h.Log = "ok"
		}
	}
	if _, err := s.clock.check(); err != nil {
		degrade(&h.Clock, err.Error())
	}
	now := s.clock.best()
	for _, name := range slices.Sorted(maps.Keys(s.profiles)) {
		if f := s.ending(s.first(now), s.profiles[name], now); f != nil && !slices.Contains(h.Notes, f.Text) {
			h.Status = "degraded"
			h.Notes = append(h.Notes, f.Text)
		}
	}
	for _, e := range s.expiries() {
		switch left := e.At.Sub(now); {
		case left <= 0:
			h.Status = "degraded"
			h.Notes = append(h.Notes, fmt.Sprintf("%s ended at %s: %s", e.Name, stamp(e.At), e.Hint))
		case !e.renewed && left <= warnAhead[len(warnAhead)-1]:
			h.Notes = append(h.Notes, fmt.Sprintf("%s ends in %d days, at %s: %s", e.Name, int(left/(24*time.Hour)), stamp(e.At), e.Hint))
		}
		h.Expiries = append(h.Expiries, e)
	}
	if s.c.Shared != nil {
		h.Notes = append(h.Notes, s.sharedNote(now))
	}
	if c := s.issuers[0].crl.Load(); c != nil {
		h.CRLNumber = c.Number
	}
	return h
}

// answers asks the store something.
func (s *Service) answers(ctx context.Context) error {
	_, err := s.c.Store.Sequence(ctx)
	return err
}

// CertificateExpiry is that of a certificate, for ServiceConfig.Expiries.
func CertificateExpiry(name string, c *x509.Certificate, hint string) Expiry {
	return Expiry{Name: name, At: c.NotAfter.UTC(), Hint: hint}
}

// Expiry is when the Operations Root's list ends; ok is false where there is none.
func (c *Callers) Expiry() (e Expiry, ok bool) {
	l := c.crl.Load()
	if l == nil {
		return e, false
	}
	return Expiry{Name: "the Operations Root's CRL", At: l.next.UTC(), Hint: "have the ceremony issue a fresh one, and put it where operations.crl says: when it ends, every station is refused"}, true
}
