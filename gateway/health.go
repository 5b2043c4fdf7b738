package gateway

import (
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust/feed"
)

// warnAhead are the times before an end at which the log says that it comes; health says it from the first of them on.
var warnAhead = []time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour}

// Health is how the gateway fares, as /healthz tells it.
type Health struct {
	// Status is "ok"; "degraded" while something needs a person, although devices are admitted; "failing" while devices are refused that
	// should be admitted: all, or new ones.
	Status string `json:"status"`
	// Environment, TrustExpires and TrustFingerprint are those of a gateway of one environment; Environments are those of several.
	Environment  string              `json:"environment,omitempty"`
	Environments []EnvironmentHealth `json:"environments,omitempty"`
	// Error is why it fails.
	Error string `json:"error,omitempty"`
	// Notes say what needs a person.
	Notes            []string  `json:"notes,omitempty"`
	TrustExpires     time.Time `json:"trust_expires,omitzero"`
	TrustFingerprint string    `json:"trust_fingerprint,omitempty"`
	// Ends are what ends within 30 days, or has ended.
	Ends []End `json:"ends,omitempty"`
}

// EnvironmentHealth is how one environment of several fares.
type EnvironmentHealth struct {
	Name string `json:"name"`
	// Error is why its devices are refused.
	Error            string    `json:"error,omitempty"`
	TrustExpires     time.Time `json:"trust_expires,omitzero"`
	TrustFingerprint string    `json:"trust_fingerprint,omitempty"`
}

// End is something that ends.
type End struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

// vitals are what is known of the surroundings of an environment.
type vitals struct {
	mu sync.Mutex
	// source is the trust source's status; nil before it is followed.
	source func() feed.Status
	// since is when the view in force was put there.
	since time.Time
}

func (v *vitals) follow(status func() feed.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.source = status
}

// status is the trust source's; false before it is followed.
func (v *vitals) status() (feed.Status, bool) {
	v.mu.Lock()
	source := v.source
	v.mu.Unlock()
	if source == nil {
		return feed.Status{}, false
	}
	return source(), true
}

func (v *vitals) renewed(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.since = at
}

// told is what the log holds of health: the notes, and the shortest time before each end that it has told of.
type told struct {
	mu     sync.Mutex
	notes  map[string]bool
	warned map[string]time.Duration
}

// Words tell it in one line, for people.
func (h Health) Words() string {
	words := []string{h.Status}
	if h.Error != "" {
		words = append(words, h.Error)
	}
	return strings.Join(append(words, h.Notes...), "; ")
}

// Health says how the gateway fares. Of several environments one that fails is told in a note: the gateway fails when all do, for a load balancer that
// took it out would take the others' devices away with it.
func (g *Gateway) Health() Health {
	h := Health{Status: "ok"}
	now, fail := g.now(), func(why string) {
		h.Status = "failing"
		if h.Error == "" {
			h.Error = why
		}
	}
	if err := g.registry.Err(); err != nil {
		fail(err.Error())
	}
	if blind := g.registry.Figures().Blind; blind > blindNote && g.registry.Err() == nil {
		h.Notes = append(h.Notes, fmt.Sprintf("the registry has not answered for more than %s: devices that are known are admitted, and what others block is not seen", blindNote))
	}
	if err := g.registry.Trouble(); err != nil {
		fail("the registry takes no new devices: " + err.Error())
	}
	failing := 0
	for _, e := range g.environments {
		one, notes := e.health(now)
		if one.Error != "" {
			failing++
		}
		if len(g.environments) == 1 {
			h.Environment, h.TrustExpires, h.TrustFingerprint, h.Notes = one.Name, one.TrustExpires, one.TrustFingerprint, notes
			continue
		}
		if one.Error != "" {
			h.Notes = append(h.Notes, one.Name+": its devices are refused: "+one.Error)
		}
		for _, n := range notes {
			h.Notes = append(h.Notes, one.Name+": "+n)
		}
		h.Environments = append(h.Environments, one)
	}
	if failing == len(g.environments) {
		one, _ := g.environments[0].health(now)
		fail(one.Error)
	}
	for _, e := range g.environments {
		if note := e.sharedNote(now); note != "" {
			h.Notes = append(h.Notes, note)
		}
	}
	for _, end := range g.ends() {
		if left := end.At.Sub(now); left <= warnAhead[0] {
			h.Ends = append(h.Ends, end)
			if left <= 0 {
				h.Notes = append(h.Notes, fmt.Sprintf("%s ended on %s", end.Name, end.At.Format(time.RFC3339)))
			} else {
				h.Notes = append(h.Notes, fmt.Sprintf("%s ends on %s", end.Name, end.At.Format(time.RFC3339)))
			}
		}
	}
	if h.Status == "ok" && len(h.Notes) > 0 {
		h.Status = "degraded"
	}
	return h
}

// health is how the environment fares, and what of it needs a person.
func (e *environment) health(now time.Time) (h EnvironmentHealth, notes []string) {
	h.Name = e.name
	current := e.judge.Load()
	if current == nil {
		h.Error = NoTrust.Text()
		return h, e.sourceNotes()
	}
	view := current.judge.view
	h.TrustExpires, h.TrustFingerprint = view.Expires().UTC(), fmt.Sprintf("%x", view.Fingerprint())
	if err := view.Valid(now); err != nil {
		h.Error = err.Error()
	}
	if _, stray := e.allowed(current.judge.policy.GatewayNames); len(stray) > 0 {
		notes = append(notes, e.strayNames(stray).Error())
	}
	notes = append(notes, current.judge.notes(now)...)
	notes = append(notes, e.notRenewed(view, now)...)
	return h, append(append(notes, e.sourceNotes()...), e.forward.Notes()...)
}

// notes name the CAs whose devices are refused although nobody took the CA away, and those whose CRL is used by an exception.
func (j *judge) notes(now time.Time) (notes []string) {
	for _, name := range slices.Sorted(maps.Keys(j.cas.bySubject)) {
		for _, ca := range j.cas.bySubject[name] {
			if s := j.state(ca, now); s != "ok" && s != "root" && s != "revoked" {
				notes = append(notes, fmt.Sprintf("CA %s: %s", show.Text(ca.cert.Subject.String()), s))
			}
		}
	}
	return notes
}

// notRenewed says that nothing fresh came in time: a publisher signs anew when half of a life has passed.
func (e *environment) notRenewed(view View, now time.Time) []string {
	e.vitals.mu.Lock()
	since := e.vitals.since
	e.vitals.mu.Unlock()
	left := view.Expires().Sub(now)
	if left <= 0 || since.IsZero() || left > view.Expires().Sub(since)/3 {
		return nil
	}
	return []string{fmt.Sprintf("trust was not signed anew in time: from %s on every device is refused. Is 'hanaper-repo serve' running, and has the officers' part not ended?",
		view.Expires().UTC().Format(time.RFC3339))}
}

func (e *environment) sourceNotes() (notes []string) {
	s, followed := e.vitals.status()
	if !followed {
		return nil
	}
	if s.Unkept != nil {
		notes = append(notes, "trust is not kept: "+show.Line(s.Unkept.Error()))
	} else if s.Err != nil {
		since := "this gateway started"
		if !s.Checked.IsZero() {
			since = s.Checked.UTC().Format(time.RFC3339)
		}
		notes = append(notes, fmt.Sprintf("the trust source fails since %s: %s", since, show.Line(s.Err.Error())))
	}
	return notes
}

// ends are what ends, and is not renewed by a program: the gateway's certificates, the officers' part of trust, and the CAs.
func (g *Gateway) ends() (list []End) {
	for _, e := range g.environments {
		for _, end := range e.ends() {
			if len(g.environments) > 1 {
				end.Name = e.name + ": " + end.Name
			}
			list = append(list, end)
		}
	}
	return list
}

func (e *environment) ends() (list []End) {
	add := func(name string, at time.Time) { list = append(list, End{name, at.UTC()}) }
	for _, k := range e.pairs() {
		add(k.section+".certificate", k.current.Load().Leaf.NotAfter)
	}
	current := e.judge.Load()
	if current == nil {
		return list
	}
	if v, ok := current.judge.view.(interface{ OfficersEnds() map[string]time.Time }); ok {
		ends := v.OfficersEnds()
		for _, name := range slices.Sorted(maps.Keys(ends)) {
			add(name+" of trust", ends[name])
		}
	}
	for _, c := range slices.Concat(current.judge.view.Anchors(), current.judge.view.Intermediates()) {
		add("CA "+show.Text(c.Subject.String()), c.NotAfter)
	}
	return list
}

// logHealth writes what has changed: a line for each note that comes, and one for each that goes.
func (g *Gateway) logHealth() {
	h := g.Health()
	now := g.now()
	g.told.mu.Lock()
	defer g.told.mu.Unlock()
	is := map[string]bool{}
	if h.Error != "" {
		is["failing: "+h.Error] = true
	}
	for _, n := range h.Notes {
		// Follow tells of the source as it happens; ends are told below, at their times.
		if !strings.Contains(n, "the trust source fails") && !strings.Contains(n, " ends on ") {
			is[n] = true
		}
	}
	for _, n := range slices.Sorted(maps.Keys(is)) {
		if !g.told.notes[n] {
			g.log.Error("health", "what", n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(g.told.notes)) {
		if !is[n] {
			g.log.Info("health: over", "what", n)
		}
	}
	g.told.notes = is
	if g.told.warned == nil {
		g.told.warned = map[string]time.Duration{}
	}
	for _, e := range h.Ends {
		key := e.Name + e.At.String()
		for _, ahead := range slices.Backward(warnAhead) {
			if left := e.At.Sub(now); left > 0 && left <= ahead {
				if was, told := g.told.warned[key]; !told || ahead < was {
					g.told.warned[key] = ahead
					g.log.Warn("it ends soon", "what", e.Name, "at", e.At.Format(time.RFC3339))
				}
				break
			}
		}
	}
}

// writeHealth prints the figures of health in the Prometheus text format.
func (g *Gateway) writeHealth(w io.Writer) {
	gauge := func(name, help string, v int64) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n%s %d\n", name, help, name, name, v)
	}
	yes := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	h := g.Health()
	gauge("hanaper_gateway_healthy", "1 while nothing needs a person.", yes(h.Status == "ok"))
	gauge("hanaper_gateway_registry_ok", "1 while the registry answers and takes new devices.", yes(g.registry.Err() == nil && g.registry.Trouble() == nil))
	each := func(name, help string, value func(e *environment) (int64, bool)) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for _, e := range g.environments {
			if v, there := value(e); there {
				fmt.Fprintf(w, "%s{environment=%s} %d\n", name, quoteLabel(e.name), v)
			}
		}
	}
	each("hanaper_gateway_environment_ok", "1 while devices of the environment are admitted.", func(e *environment) (int64, bool) {
		one, _ := e.health(g.now())
		return yes(one.Error == ""), true
	})
	each("hanaper_gateway_trust_kept", "1 while the trust in force is kept on disk: else a restart forgets it.", func(e *environment) (int64, bool) {
		s, followed := e.vitals.status()
		return yes(s.Unkept == nil), followed
	})
	each("hanaper_gateway_trust_checked_seconds", "When the trust source was last in order, Unix time.", func(e *environment) (int64, bool) {
		s, followed := e.vitals.status()
		return max(s.Checked.Unix(), 0), followed
	})
	each("hanaper_gateway_trust_expires_seconds", "When the trust view expires, Unix time.", func(e *environment) (int64, bool) {
		current := e.judge.Load()
		if current == nil {
			return 0, false
		}
		return current.judge.view.Expires().Unix(), true
	})
	fmt.Fprint(w, "# HELP hanaper_gateway_crl_next_update_seconds When the CRL of a CA is due, Unix time; 0 where there is none.\n# TYPE hanaper_gateway_crl_next_update_seconds gauge\n")
	for _, e := range g.environments {
		current := e.judge.Load()
		if current == nil {
			continue
		}
		view := current.judge.view
		for _, c := range slices.Concat(view.Anchors(), view.Intermediates()) {
			due := int64(0)
			if info, ok := view.CRL(c); ok {
				due = info.NextUpdate.Unix()
			}
			fmt.Fprintf(w, "hanaper_gateway_crl_next_update_seconds{environment=%s,ca=%s} %d\n", quoteLabel(e.name), label(c), due)
		}
	}
	g.writeRoutes(w)
	fmt.Fprint(w, "# HELP hanaper_gateway_ends_seconds When something ends that no program renews, Unix time.\n# TYPE hanaper_gateway_ends_seconds gauge\n")
	for _, e := range g.environments {
		for _, end := range e.ends() {
			fmt.Fprintf(w, "hanaper_gateway_ends_seconds{environment=%s,what=%s} %d\n", quoteLabel(e.name), quoteLabel(end.Name), end.At.Unix())
		}
	}
}

func label(c *x509.Certificate) string { return quoteLabel(show.Text(c.Subject.String())) }

// quoteLabel is the value of a label in the Prometheus text format.
func quoteLabel(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
